#include "series/several_inputs.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "series/assignment.h"
#include "series/internal.h"
#include "series/matches.h"

namespace tomoserve::series {
namespace {

using tomoserve::v1::Reason;

// Volumes on further grids serve no run: a bound for hostile headers.
constexpr std::size_t kMaxGrids = 1024;

// Every input against every series.
struct Judged {
  std::vector<std::vector<Outcome>> outcomes;  // [input][series]
  std::vector<std::vector<Match>> ranked;      // of each input, the best first
};

Judged JudgeAll(const tomoserve::v1::Recipe& recipe, const StudySeries& study) {
  Judged judged;
  for (const tomoserve::v1::Input& input : recipe.inputs()) {
    auto& outcomes = judged.outcomes.emplace_back();
    auto& ranked = judged.ranked.emplace_back();
    for (const Series& series : study.series) {
      outcomes.push_back(Judge(input, series, /*in_time=*/false));
      for (const Match& match : outcomes.back().matches) {
        ranked.push_back(match);
        ranked.back().order = ranked.size();
      }
    }
    std::sort(ranked.begin(), ranked.end(),
              [](const Match& a, const Match& b) { return a.Rank() < b.Rank(); });
  }
  return judged;
}

// What says that voxels of one grid are at the same place of the patient. Where it is missing, only volumes
// of one series can be.
std::string FrameOf(const Match& match) {
  const std::string& uid = match.volumes.front()->representative.frame_of_reference_uid();
  return uid.empty() ? absl::StrCat("series ", match.series->series_instance_uid) : uid;
}

// Volumes on one grid: of each input those that match it, the best first.
struct Grid {
  const Volume* first = nullptr;
  std::string frame;
  Choices choices;
};

std::vector<Grid> GridsOf(const Judged& judged, bool same_frame) {
  std::vector<Grid> grids;
  std::map<const Volume*, std::size_t> known;  // the grid's place; kMaxGrids: none
  for (std::size_t input = 0; input < judged.ranked.size(); ++input) {
    for (const Match& match : judged.ranked[input]) {
      const Volume* volume = match.volumes.front();
      const auto [entry, is_new] = known.emplace(volume, kMaxGrids);
      if (is_new) {
        const std::string frame = same_frame ? FrameOf(match) : "";
        const auto home = std::find_if(grids.begin(), grids.end(), [&](const Grid& grid) {
          return grid.frame == frame && OnOneGrid(*grid.first, *volume);
        });
        entry->second = static_cast<std::size_t>(home - grids.begin());
        if (home == grids.end() && grids.size() < kMaxGrids) {
          grids.push_back({volume, frame, Choices(judged.ranked.size())});
        }
      }
      if (entry->second < grids.size()) grids[entry->second].choices[input].push_back(volume);
    }
  }
  return grids;
}

const Match& MatchOf(const Judged& judged, std::size_t input, const Volume* volume) {
  const auto& ranked = judged.ranked[input];
  return *std::find_if(ranked.begin(), ranked.end(),
                       [&](const Match& match) { return match.volumes.front() == volume; });
}

// The matches of all inputs on one grid; empty where no grid has them all.
struct Best {
  std::vector<Match> matches;
  const Grid* grid = nullptr;
};

// Of the grids the one whose first match is best.
Best BestOf(const Judged& judged, const std::vector<Grid>& grids) {
  Best best;
  const auto is_better = [](const Match& a, const Match& b) { return a.Rank() < b.Rank(); };
  for (const Grid& grid : grids) {
    std::vector<Match> own;
    for (const Volume* volume : AssignBest(grid.choices)) {
      own.push_back(MatchOf(judged, own.size(), volume));
    }
    if (own.empty()) continue;
    if (best.matches.empty() || std::lexicographical_compare(own.begin(), own.end(), best.matches.begin(),
                                                             best.matches.end(), is_better)) {
      best = {std::move(own), &grid};
    }
  }
  return best;
}

// An input that another volume of the grid would serve as well, so that only the order of series has decided:
// b values, echoes, phases of contrast, two series of one name. Which one the network means is not known
// then.
std::optional<std::size_t> AmbiguousInput(const Judged& judged, const Best& best) {
  Choices equal(best.matches.size());
  for (std::size_t input = 0; input < equal.size(); ++input) {
    for (const Volume* volume : best.grid->choices[input]) {
      if (MatchOf(judged, input, volume).Quality() == best.matches[input].Quality())
        equal[input].push_back(volume);
    }
  }
  for (std::size_t input = 0; input < equal.size(); ++input) {
    Choices others = equal;
    std::erase(others[input], best.matches[input].volumes.front());
    if (!AssignBest(std::move(others)).empty()) return input;
  }
  return std::nullopt;
}

Reason Ambiguous(const tomoserve::v1::Recipe& recipe, std::size_t input) {
  return MakeReason(
      "INPUT_AMBIGUOUS", recipe.inputs(static_cast<int>(input)).name(),
      "several volumes fit this input of the recipe equally well: nothing says which one is meant");
}

Reason Differ(std::string_view value) {
  return MakeReason("INPUTS_DIFFER", value,
                    value == "GRID"       ? "the volumes for the inputs lie on different grids"
                    : value == "IDENTITY" ? "the volumes for the inputs may be of two patients"
                                          : "the volumes for the inputs lie in no common frame of reference");
}

Reason Missing(const tomoserve::v1::Recipe& recipe, std::size_t input) {
  return MakeReason("INPUT_MISSING", recipe.inputs(static_cast<int>(input)).name(),
                    "no series, or none that no other input takes, fits this input of the recipe");
}

std::vector<std::size_t> Unserved(const Choices& choices) {
  const std::vector<const Volume*> volumes = Assign(choices);
  std::vector<std::size_t> unserved;
  for (std::size_t input = 0; input < volumes.size(); ++input) {
    if (volumes[input] == nullptr) unserved.push_back(input);
  }
  return unserved;
}

// Of each input the volumes that match it, or that would but for their geometry.
Choices FittingVolumes(const Judged& judged, bool rejected_too) {
  Choices choices(judged.ranked.size());
  for (std::size_t input = 0; input < choices.size(); ++input) {
    for (const Match& match : judged.ranked[input]) choices[input].push_back(match.volumes.front());
    if (!rejected_too) continue;
    for (const Outcome& outcome : judged.outcomes[input]) {
      choices[input].insert(choices[input].end(), outcome.rejected_volumes.begin(),
                            outcome.rejected_volumes.end());
    }
  }
  return choices;
}

void AddRejections(const Judged& judged, std::size_t input, std::vector<Reason>& reasons) {
  for (const Outcome& outcome : judged.outcomes[input]) {
    for (const Reason& reason : outcome.rejected) AddOnce(reasons, reason);
  }
}

std::string_view Difference(const StudySeries& study, const Judged& judged) {
  if (study.identity_conflict) return "IDENTITY";
  return BestOf(judged, GridsOf(judged, /*same_frame=*/false)).matches.empty() ? "GRID"
                                                                               : "FRAME_OF_REFERENCE";
}

// Why nothing can be analysed; returns the one reason of series that match an input.
Reason ExplainNothing(const tomoserve::v1::Recipe& recipe, const StudySeries& study, const Judged& judged,
                      Selection& selection) {
  const std::vector<std::size_t> unserved = Unserved(FittingVolumes(judged, /*rejected_too=*/false));
  if (unserved.empty()) {
    selection.inconclusive = true;
    selection.reasons.push_back(Differ(Difference(study, judged)));
    return selection.reasons.front();
  }
  const std::vector<std::size_t> missing = Unserved(FittingVolumes(judged, /*rejected_too=*/true));
  if (missing.empty()) {
    selection.inconclusive = true;
    for (const std::size_t input : unserved) AddRejections(judged, input, selection.reasons);
    // Its volume went to another input, which could have had a rejected one.
    for (std::size_t input = 0; selection.reasons.empty() && input < judged.outcomes.size(); ++input) {
      AddRejections(judged, input, selection.reasons);
    }
    return Missing(recipe, unserved.front());
  }
  std::vector<Misfit> misfits;
  for (const std::size_t input : missing) {
    AddOnce(selection.reasons, Missing(recipe, input));
    for (const Outcome& outcome : judged.outcomes[input]) {
      if (outcome.matches.empty() && outcome.rejected.empty() && outcome.nearest_misfit)
        misfits.push_back(*outcome.nearest_misfit);
    }
  }
  AddByStage(misfits, selection.reasons);
  return Missing(recipe, missing.front());
}

// Why a series that matches an input is not used beside the `chosen`, by the first input that it matches.
std::optional<Reason> WhyNotChosen(const std::vector<Match>& chosen, const Judged& judged,
                                   std::size_t series) {
  for (std::size_t input = 0; input < chosen.size(); ++input) {
    const std::vector<Match>& matches = judged.outcomes[input][series].matches;
    if (matches.empty()) continue;
    const Volume* volume = matches.front().volumes.front();
    const Match& own = MatchOf(judged, input, volume);
    if (chosen[input].Rank() < own.Rank()) return Outranked(chosen[input], own);
    return Differ(OnOneGrid(*chosen.front().volumes.front(), *volume) ? "FRAME_OF_REFERENCE" : "GRID");
  }
  return std::nullopt;
}

// Of a series that matches no input: the verdict on its geometry, or what came closest.
std::optional<Reason> WhyNoMatch(const Judged& judged, std::size_t series) {
  const Misfit* nearest = nullptr;
  for (const auto& outcomes : judged.outcomes) {
    const Outcome& outcome = outcomes[series];
    if (!outcome.rejected.empty()) return outcome.rejected.front();
    if (outcome.nearest_misfit && (nearest == nullptr || outcome.nearest_misfit->stage > nearest->stage))
      nearest = &*outcome.nearest_misfit;
  }
  return nearest != nullptr ? std::optional(nearest->reason) : std::nullopt;
}

bool MatchesAny(const Judged& judged, std::size_t series) {
  return std::any_of(judged.outcomes.begin(), judged.outcomes.end(),
                     [&](const auto& outcomes) { return !outcomes[series].matches.empty(); });
}

}  // namespace

Selection SelectSeveral(const tomoserve::v1::Recipe& recipe, const StudySeries& study) {
  const Judged judged = JudgeAll(recipe, study);
  Selection selection;
  selection.channels = std::max(1u, static_cast<std::uint32_t>(recipe.inputs_size()));
  const std::vector<Grid> grids = GridsOf(judged, /*same_frame=*/true);
  Best best;
  // Volumes of two patients share no grid, whatever it says.
  if (!study.identity_conflict) best = BestOf(judged, grids);
  std::optional<Reason> nothing;
  if (best.matches.empty()) {
    nothing = ExplainNothing(recipe, study, judged, selection);
  } else if (const auto input = AmbiguousInput(judged, best)) {
    nothing = Ambiguous(recipe, *input);
    selection.inconclusive = true;
    selection.reasons.push_back(*nothing);
    best.matches.clear();
  }
  const std::vector<Match>& chosen = best.matches;
  for (const Match& match : chosen) {
    selection.volumes.push_back(match.volumes.front());
    selection.series.push_back(match.series);
    AddOnce(selection.limitations, match.limitations);
  }
  for (std::size_t n = 0; n < study.series.size(); ++n) {
    const Series& series = study.series[n];
    if (selection.Uses(series)) {
      std::vector<const Volume*> own;
      for (const Match& match : chosen) {
        if (match.series == &series) own.push_back(match.volumes.front());
      }
      selection.uses.push_back(Used(series, own));
      continue;
    }
    std::optional<Reason> reason;
    if (MatchesAny(judged, n)) {
      reason = nothing ? nothing : WhyNotChosen(chosen, judged, n);
    } else {
      reason = WhyNoMatch(judged, n);
    }
    if (reason) selection.uses.push_back(Unused(series, *reason));
  }
  return selection;
}

}  // namespace tomoserve::series
