// A recipe with one input: the best match of all series.
#include "tomoserve/series/selection.h"

#include <algorithm>

#include "series/internal.h"
#include "series/matches.h"
#include "series/several_inputs.h"

namespace tomoserve::series {
namespace {

Selection SelectOne(const tomoserve::v1::Input& input, const StudySeries& study) {
  Selection selection;
  std::vector<Outcome> outcomes;
  std::vector<Match> matches;
  for (const Series& series : study.series) {
    outcomes.push_back(Judge(input, series, input.every_time_point()));
    for (const Match& match : outcomes.back().matches) {
      matches.push_back(match);
      matches.back().order = matches.size();
    }
  }
  const auto best = std::min_element(matches.begin(), matches.end(),
                                     [](const Match& a, const Match& b) { return a.Rank() < b.Rank(); });
  if (best != matches.end()) {
    selection.volumes = best->volumes;
    selection.series.assign(best->volumes.size(), best->series);
    selection.limitations = best->limitations;
  }

  std::vector<Misfit> misfits;
  for (std::size_t n = 0; n < study.series.size(); ++n) {
    const Series& series = study.series[n];
    const Outcome& outcome = outcomes[n];
    if (selection.Uses(series)) {
      selection.uses.push_back(Used(series, selection.volumes));
      continue;
    }
    if (!outcome.matches.empty()) {
      const auto own = std::find_if(matches.begin(), matches.end(),
                                    [&](const Match& match) { return match.series == &series; });
      selection.uses.push_back(Unused(series, Outranked(*best, *own)));
    } else if (!outcome.rejected.empty()) {
      selection.uses.push_back(Unused(series, outcome.rejected.front()));
    } else if (outcome.nearest_misfit) {
      selection.uses.push_back(Unused(series, outcome.nearest_misfit->reason));
      misfits.push_back(*outcome.nearest_misfit);
    }
    if (selection.volumes.empty() && !outcome.rejected.empty()) {
      selection.inconclusive = true;
      for (const auto& reason : outcome.rejected) AddOnce(selection.reasons, reason);
    }
  }
  // The series that came closest speaks first.
  if (selection.volumes.empty() && !selection.inconclusive) AddByStage(misfits, selection.reasons);
  return selection;
}

}  // namespace

Selection Select(const tomoserve::v1::Recipe& recipe, const StudySeries& study) {
  if (study.series.empty()) {
    Selection selection;
    selection.reasons.push_back(MakeReason("NO_VOLUME", "", "the study holds no instance"));
    return selection;
  }
  return recipe.inputs_size() == 1 ? SelectOne(recipe.inputs(0), study) : SelectSeveral(recipe, study);
}

}  // namespace tomoserve::series
