// Whether labels lie and measure as in every patient.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tomoserve/base/reason.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::findings {
namespace {

using ipc::v1::LabelExtent;

// Means of voxel places and volumes are sums of many doubles.
constexpr double kTolerance = 1e-6;

// Axis in LPS, and which way along it.
struct Side {
  int axis = 0;
  double sign = 1;
  const char* name = "";
  const char* other = "";  // the opposite one
};

std::optional<Side> SideOf(v1::Towards towards) {
  switch (towards) {
    case v1::TOWARDS_RIGHT:
      return Side{0, -1, "right", "left"};
    case v1::TOWARDS_LEFT:
      return Side{0, 1, "left", "right"};
    case v1::TOWARDS_ANTERIOR:
      return Side{1, -1, "in front", "behind"};
    case v1::TOWARDS_POSTERIOR:
      return Side{1, 1, "behind", "in front"};
    case v1::TOWARDS_INFERIOR:
      return Side{2, -1, "below", "above"};
    case v1::TOWARDS_SUPERIOR:
      return Side{2, 1, "above", "below"};
    default:
      return std::nullopt;
  }
}

std::string NameOf(const v1::Recipe& recipe, std::uint32_t value) {
  for (const v1::Label& label : recipe.labels()) {
    if (label.value() == value) return label.name();
  }
  return absl::StrCat(value);
}

// A label that is whole: what is cut off by the images has another centre and volume than the patient's.
const LabelExtent* Whole(const ipc::v1::RunDone& done, std::uint32_t label, std::uint32_t time_point,
                         const volume::Geometry& grid) {
  for (const LabelExtent& extent : done.labels()) {
    if (extent.label() != label || extent.time_point() != time_point) continue;
    const bool whole = extent.voxels() > 0 && extent.first_k() > 0 &&
                       extent.last_k() + std::uint64_t{1} < grid.size_ijk()[2] &&
                       !extent.touches_in_plane_border() && extent.center_lps_size() == 3 &&
                       std::all_of(extent.center_lps().begin(), extent.center_lps().end(),
                                   [](double mm) { return std::isfinite(mm); }) &&
                       std::isfinite(extent.volume_ml());
    return whole ? &extent : nullptr;
  }
  return nullptr;
}

std::optional<v1::Reason> JudgeVolume(const v1::Recipe& recipe, const v1::PlausibilityRule& rule,
                                      const LabelExtent& extent) {
  const v1::DoubleRange& range = rule.volume_ml();
  const bool small = range.has_min() && extent.volume_ml() < range.min() - kTolerance;
  const bool large = range.has_max() && extent.volume_ml() > range.max() + kTolerance;
  if (!small && !large) return std::nullopt;
  return base::MakeReason(
      "VOLUME_IMPLAUSIBLE",
      absl::StrCat(NameOf(recipe, rule.label()),
                   absl::StrFormat(" %.1f ml, %s %.1f", extent.volume_ml(), small ? "at least" : "at most",
                                   small ? range.min() : range.max())),
      "a structure that lies whole in the images has a volume that no patient's has");
}

std::optional<v1::Reason> JudgeSide(const v1::Recipe& recipe, const v1::PlausibilityRule& rule,
                                    const LabelExtent& extent, const LabelExtent& other) {
  const auto side = SideOf(rule.towards());
  if (!side) return std::nullopt;
  const double mm = side->sign * (extent.center_lps(side->axis) - other.center_lps(side->axis));
  if (mm >= rule.by_mm() - kTolerance) return std::nullopt;
  return base::MakeReason(
      "ORIENTATION_IMPLAUSIBLE",
      absl::StrCat(NameOf(recipe, rule.label()),
                   absl::StrFormat(" %.1f mm %s of ", std::abs(mm), mm < 0 ? side->other : side->name),
                   NameOf(recipe, rule.of_label()),
                   absl::StrFormat(", not %.1f mm %s", rule.by_mm(), side->name)),
      "structures do not lie as in a patient: the images may be mirrored, or turned");
}

}  // namespace

std::vector<v1::Reason> JudgePlausibility(const v1::Recipe& recipe, const volume::Geometry& grid,
                                          const ipc::v1::RunDone& done) {
  std::uint32_t time_points = 1;
  for (const LabelExtent& extent : done.labels()) {
    time_points = std::max(time_points, extent.time_point() + 1);
  }
  std::vector<v1::Reason> reasons;
  for (const v1::PlausibilityRule& rule : recipe.plausibility()) {
    std::optional<v1::Reason> reason;
    for (std::uint32_t time_point = 0; time_point < time_points && !reason; ++time_point) {
      const LabelExtent* extent = Whole(done, rule.label(), time_point, grid);
      if (extent == nullptr) continue;
      if (rule.has_volume_ml()) {
        reason = JudgeVolume(recipe, rule, *extent);
        continue;
      }
      const LabelExtent* other = Whole(done, rule.of_label(), time_point, grid);
      if (other != nullptr) reason = JudgeSide(recipe, rule, *extent, *other);
    }
    if (reason) reasons.push_back(*std::move(reason));
  }
  return reasons;
}

}  // namespace tomoserve::findings
