#include "tomoserve/series/selection.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "series/indication.h"
#include "series/internal.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::series {
namespace {

using tomoserve::v1::Reason;

// A volume that fits the indication and can be used, with what it is ranked by: smaller is better.
struct Match {
  const Series* series = nullptr;
  const Volume* volume = nullptr;
  std::vector<std::string> limitations;
  std::uint32_t synthetic = 0;  // slices that nobody acquired
  int resampled = 0;            // 1: its grid is not that of its slices
  std::size_t kernel = 0;       // place in the preferred list
  long long spacing_um = 0;     // distance between slices
  long long slices = 0;         // negative count
  std::size_t order = 0;        // of the series, then the volume

  auto Rank() const { return std::tie(synthetic, resampled, kernel, spacing_um, slices, order); }
};

// Place of the volume's kernel in the recipe's list; the list's length if it is not there. Convolution Kernel
// may have several values.
std::size_t KernelPlace(const tomoserve::v1::Input& input, const std::string& kernel) {
  const std::vector<std::string> values = absl::StrSplit(absl::AsciiStrToUpper(kernel), '\\');
  int place = 0;
  for (; place < input.preferred_kernels_size(); ++place) {
    const std::string wanted =
        absl::AsciiStrToUpper(absl::StripAsciiWhitespace(input.preferred_kernels(place)));
    const bool found = std::any_of(values.begin(), values.end(), [&](const std::string& value) {
      return absl::StripAsciiWhitespace(value) == wanted;
    });
    if (found) break;
  }
  return static_cast<std::size_t>(place);
}

// The first thing that made `other` come after `best`.
Reason Outranked(const Match& best, const Match& other) {
  const char* by = "ORDER";
  if (best.synthetic != other.synthetic) {
    by = "SYNTHETIC_SLICES";
  } else if (best.resampled != other.resampled) {
    by = "RESAMPLED";
  } else if (best.kernel != other.kernel) {
    by = "KERNEL";
  } else if (best.spacing_um != other.spacing_um) {
    by = "SLICE_SPACING";
  } else if (best.slices != other.slices) {
    by = "SLICES";
  }
  return MakeReason("OUTRANKED", by, "another series of the study fits better");
}

void AddOnce(std::vector<Reason>& reasons, const Reason& reason) {
  const bool there = std::any_of(reasons.begin(), reasons.end(), [&](const Reason& known) {
    return known.code() == reason.code() && known.value() == reason.value();
  });
  if (!there) reasons.push_back(reason);
}

// What became of one series before ranking.
struct Outcome {
  std::vector<Match> matches;
  std::vector<Reason> rejected;          // verdicts of volumes that fit the indication
  std::optional<Misfit> nearest_misfit;  // of the volumes that do not, the one that got furthest
};

Outcome Judge(const tomoserve::v1::Input& input, const Series& series) {
  Outcome outcome;
  if (auto misfit = CheckModality(input, series.modality)) {
    outcome.nearest_misfit = std::move(misfit);
    return outcome;
  }
  if (series.volumes.empty()) {
    const std::string because = series.set_aside.empty() ? "" : series.set_aside.front().reason.code();
    outcome.nearest_misfit = Misfit{1, MakeReason("NO_VOLUME", because, "the series holds no image volume")};
    return outcome;
  }
  for (const Volume& volume : series.volumes) {
    Indication indication = CheckIndication(input, volume);
    if (indication.misfit) {
      if (!outcome.nearest_misfit || indication.misfit->stage > outcome.nearest_misfit->stage) {
        outcome.nearest_misfit = std::move(indication.misfit);
      }
      continue;
    }
    const bool usable =
        volume.verdict == Verdict::kAccept ||
        (volume.verdict == Verdict::kResample && volume.synthetic_slices() <= input.max_synthetic_slices());
    if (!usable || !volume.geometry) {
      for (const Reason& reason : volume.reasons) AddOnce(outcome.rejected, reason);
      continue;
    }
    Match match;
    match.series = &series;
    match.volume = &volume;
    match.limitations = std::move(indication.limitations);
    match.synthetic = volume.synthetic_slices();
    match.resampled = volume.verdict == Verdict::kResample ? 1 : 0;
    match.kernel = KernelPlace(input, volume.representative.convolution_kernel());
    match.spacing_um = std::llround(volume.geometry->spacing_mm()[2] * 1000);
    match.slices = -static_cast<long long>(volume.geometry->size_ijk()[2]);
    outcome.matches.push_back(std::move(match));
  }
  return outcome;
}

tomoserve::v1::SeriesUse UseOf(const Series& series) {
  tomoserve::v1::SeriesUse use;
  use.set_series_instance_uid(series.series_instance_uid);
  use.set_modality(series.modality);
  use.set_instances(series.instances);
  return use;
}

tomoserve::v1::SeriesUse Unused(const Series& series, const Reason& reason) {
  tomoserve::v1::SeriesUse use = UseOf(series);
  *use.add_reasons() = reason;
  return use;
}

Selection NothingFor(const StudySeries& study, const Reason& reason) {
  Selection selection;
  selection.reasons.push_back(reason);
  for (const Series& series : study.series) selection.uses.push_back(Unused(series, reason));
  return selection;
}

}  // namespace

Selection Select(const tomoserve::v1::Recipe& recipe, const StudySeries& study) {
  if (recipe.inputs_size() != 1) {
    return NothingFor(study, MakeReason("MULTI_INPUT_UNSUPPORTED", absl::StrCat(recipe.inputs_size()),
                                        "only recipes with exactly one input can be selected for"));
  }
  const tomoserve::v1::Input& input = recipe.inputs(0);
  Selection selection;
  if (study.series.empty()) {
    selection.reasons.push_back(MakeReason("NO_VOLUME", "", "the study holds no instance"));
    return selection;
  }

  std::vector<Outcome> outcomes;
  std::vector<Match> matches;
  for (const Series& series : study.series) {
    outcomes.push_back(Judge(input, series));
    for (const Match& match : outcomes.back().matches) {
      matches.push_back(match);
      matches.back().order = matches.size();
    }
  }
  const auto best = std::min_element(matches.begin(), matches.end(),
                                     [](const Match& a, const Match& b) { return a.Rank() < b.Rank(); });
  if (best != matches.end()) {
    selection.volume = best->volume;
    selection.series = best->series;
    selection.limitations = best->limitations;
  }

  std::vector<Misfit> misfits;
  for (std::size_t n = 0; n < study.series.size(); ++n) {
    const Series& series = study.series[n];
    const Outcome& outcome = outcomes[n];
    if (selection.series == &series) {
      tomoserve::v1::SeriesUse use = UseOf(series);
      use.set_analysed(true);
      for (const Reason& reason : selection.volume->reasons) *use.add_reasons() = reason;
      selection.uses.push_back(std::move(use));
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
    if (!selection.volume && !outcome.rejected.empty()) {
      selection.inconclusive = true;
      for (const Reason& reason : outcome.rejected) AddOnce(selection.reasons, reason);
    }
  }
  if (!selection.volume && !selection.inconclusive) {
    // The series that came closest speaks first.
    std::stable_sort(misfits.begin(), misfits.end(),
                     [](const Misfit& a, const Misfit& b) { return a.stage > b.stage; });
    for (const Misfit& misfit : misfits) AddOnce(selection.reasons, misfit.reason);
  }
  return selection;
}

}  // namespace tomoserve::series
