#include "series/matches.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "series/internal.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::series {
namespace {

using tomoserve::v1::Reason;

// Grids are the same where origins and spacings differ by no more (mm), direction cosines by no more, and the
// last voxel's place by no more than this share of the smallest spacing.
constexpr double kGridMm = 1e-3;
constexpr double kGridCosine = 1e-4;
constexpr double kGridShare = 0.1;

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

bool IsUsable(const tomoserve::v1::Input& input, const Volume& volume) {
  if (!volume.geometry) return false;
  return volume.verdict == Verdict::kAccept ||
         (volume.verdict == Verdict::kResample && volume.synthetic_slices() <= input.max_synthetic_slices());
}

// Why a volume is not usable: no remark on it, and no correction that the recipe allows.
std::vector<Reason> WhyUnusable(const Volume& volume) {
  if (volume.verdict == Verdict::kReject) {
    return {volume.reasons.begin(), volume.reasons.begin() + volume.rejecting};
  }
  std::vector<Reason> why;
  std::copy_if(volume.reasons.begin(), volume.reasons.end(), std::back_inserter(why),
               [](const Reason& reason) { return reason.code() == "MISSING_SLICES"; });
  return why;
}

Match MatchOf(const tomoserve::v1::Input& input, const Series& series,
              const std::vector<const Volume*>& volumes) {
  Match match;
  match.series = &series;
  match.volumes = volumes;
  const Volume& first = *volumes.front();
  for (const Volume* volume : volumes) {
    match.synthetic += volume->synthetic_slices();
    if (volume->verdict == Verdict::kResample) match.resampled = 1;
  }
  match.kernel = KernelPlace(input, first.representative.convolution_kernel());
  match.spacing_um = std::llround(first.geometry->spacing_mm()[2] * 1000);
  match.slices = -static_cast<long long>(first.geometry->size_ijk()[2]);
  match.time_points = -static_cast<long long>(volumes.size());
  return match;
}

// A volume, or the time points of one, as a whole.
void JudgeWhole(const tomoserve::v1::Input& input, const Series& series,
                const std::vector<const Volume*>& volumes, Outcome& outcome) {
  std::vector<Misfit> misfits;
  std::vector<std::string> limitations;
  std::vector<Reason> rejected;
  std::vector<const Volume*> rejected_volumes;
  for (const Volume* volume : volumes) {
    Indication indication = CheckIndication(input, *volume);
    if (indication.misfit) {
      misfits.push_back(*std::move(indication.misfit));
    } else if (!IsUsable(input, *volume)) {
      rejected_volumes.push_back(volume);
      for (const Reason& reason : WhyUnusable(*volume)) AddOnce(rejected, reason);
    } else {
      AddOnce(limitations, indication.limitations);
    }
  }
  if (misfits.size() == volumes.size()) {
    for (Misfit& misfit : misfits) {
      if (!outcome.nearest_misfit || misfit.stage > outcome.nearest_misfit->stage) {
        outcome.nearest_misfit = std::move(misfit);
      }
    }
    return;
  }
  AddByStage(misfits, rejected);
  if (rejected.empty() && rejected_volumes.empty() &&
      std::any_of(volumes.begin(), volumes.end(),
                  [&](const Volume* volume) { return !OnOneGrid(*volumes.front(), *volume); })) {
    rejected.push_back(
        MakeReason("INPUTS_DIFFER", "GRID", "the time points of the series lie on different grids"));
  }
  if (rejected.empty() && rejected_volumes.empty()) {
    outcome.matches.push_back(MatchOf(input, series, volumes));
    outcome.matches.back().limitations = std::move(limitations);
    return;
  }
  for (const Reason& reason : rejected) AddOnce(outcome.rejected, reason);
  outcome.rejected_volumes.insert(outcome.rejected_volumes.end(), rejected_volumes.begin(),
                                  rejected_volumes.end());
}

// Each volume alone, or the time points of a stack together; in order of their first volume.
std::vector<std::vector<const Volume*>> Wholes(const Series& series, bool in_time) {
  std::vector<std::vector<const Volume*>> wholes;
  std::map<std::uint32_t, std::size_t> of_stack;
  for (const Volume& volume : series.volumes) {
    const auto [known, is_new] = of_stack.emplace(volume.stack, wholes.size());
    if (is_new || !in_time) {
      wholes.push_back({&volume});
    } else {
      wholes[known->second].push_back(&volume);
    }
  }
  for (auto& whole : wholes) {
    std::stable_sort(whole.begin(), whole.end(),
                     [](const Volume* a, const Volume* b) { return a->time_point < b->time_point; });
  }
  return wholes;
}

tomoserve::v1::SeriesUse UseOf(const Series& series) {
  tomoserve::v1::SeriesUse use;
  use.set_series_instance_uid(series.series_instance_uid);
  use.set_modality(series.modality);
  use.set_instances(series.instances);
  return use;
}

}  // namespace

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
  } else if (best.time_points != other.time_points) {
    by = "TIME_POINTS";
  }
  return MakeReason("OUTRANKED", by, "another series of the study fits better");
}

Outcome Judge(const tomoserve::v1::Input& input, const Series& series, bool in_time) {
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
  for (const auto& whole : Wholes(series, in_time)) JudgeWhole(input, series, whole, outcome);
  return outcome;
}

bool OnOneGrid(const Volume& a, const Volume& b) {
  if (!a.geometry || !b.geometry || a.stored_size_ij != b.stored_size_ij) return false;
  const volume::Geometry& x = *a.geometry;
  const volume::Geometry& y = *b.geometry;
  if (x.size_ijk() != y.size_ijk()) return false;
  volume::ContinuousVoxel last;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (std::abs(x.origin_lps().mm[axis] - y.origin_lps().mm[axis]) > kGridMm) return false;
    if (std::abs(x.spacing_mm()[axis] - y.spacing_mm()[axis]) > kGridMm) return false;
    for (std::size_t part = 0; part < 3; ++part) {
      if (std::abs(x.directions()[axis][part] - y.directions()[axis][part]) > kGridCosine) return false;
    }
    last.ijk[axis] = x.size_ijk()[axis] - 1.0;
  }
  const auto& spacing = x.spacing_mm();
  return Length(Minus(x.ToLps(last).mm, y.ToLps(last).mm)) <=
         kGridMm + kGridShare * *std::min_element(spacing.begin(), spacing.end());
}

void AddOnce(std::vector<Reason>& reasons, const Reason& reason) {
  const bool there = std::any_of(reasons.begin(), reasons.end(), [&](const Reason& known) {
    return known.code() == reason.code() && known.value() == reason.value();
  });
  if (!there) reasons.push_back(reason);
}

void AddOnce(std::vector<std::string>& limitations, const std::vector<std::string>& more) {
  for (const std::string& limitation : more) {
    if (std::find(limitations.begin(), limitations.end(), limitation) == limitations.end())
      limitations.push_back(limitation);
  }
}

void AddByStage(std::vector<Misfit> misfits, std::vector<Reason>& reasons) {
  std::stable_sort(misfits.begin(), misfits.end(),
                   [](const Misfit& a, const Misfit& b) { return a.stage > b.stage; });
  for (const Misfit& misfit : misfits) AddOnce(reasons, misfit.reason);
}

tomoserve::v1::SeriesUse Used(const Series& series, const std::vector<const Volume*>& analysed) {
  std::vector<Reason> reasons;
  for (const Volume* volume : analysed) {
    for (const Reason& reason : volume->reasons) AddOnce(reasons, reason);
  }
  tomoserve::v1::SeriesUse use = UseOf(series);
  use.set_analysed(true);
  for (Reason& reason : reasons) {
    if (reason.code() == "SPLIT_BY" && analysed.size() > 1) {
      reason.set_text(
          absl::StrCat(analysed.size(), " of the ", series.volumes.size(), " volumes in its series"));
    }
    *use.add_reasons() = std::move(reason);
  }
  return use;
}

tomoserve::v1::SeriesUse Unused(const Series& series, const Reason& reason) {
  tomoserve::v1::SeriesUse use = UseOf(series);
  *use.add_reasons() = reason;
  return use;
}

}  // namespace tomoserve::series
