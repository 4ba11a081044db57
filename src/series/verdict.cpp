// The geometry verdict of one stack: order, affine, gaps, tilt, rescale. PS3.3 C.7.6.2.1.1.
#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"
#include "tomoserve/base/status.h"

namespace tomoserve::series {
namespace {

using Header = ipc::v1::InstanceHeader;

constexpr std::size_t kMinSlices = 2;
// A step may differ from the median by this much, whichever is larger.
constexpr double kStepToleranceShare = 0.01;
constexpr double kStepToleranceMm = 0.02;
// Steps within their tolerance may still add up: a slice may lie this far from its place in the affine.
constexpr double kDriftShare = 0.05;
constexpr double kDriftMm = 0.05;
// In-plane distance from the stack's line, as a share of the smaller pixel spacing, and its floor.
constexpr double kShiftShare = 0.1;
constexpr double kShiftMm = 0.02;
// The stack's direction may lean this much away from the slices' normal.
constexpr double kMaxShearDeg = 0.5;
// At most so many places of missing slices are named.
constexpr std::size_t kMaxPlaces = 8;

double Degrees(double radians) { return radians * 180 / 3.14159265358979323846; }

void Reject(Volume& volume, std::string_view code, std::string_view value, std::string_view text) {
  volume.verdict = Verdict::kReject;
  volume.reasons.push_back(MakeReason(code, value, text));
}

// Gaps: missing slices where every step is a multiple of the median, uneven spacing else.
void JudgeSteps(const std::vector<double>& along, Volume& volume) {
  std::vector<double> steps(along.size() - 1);
  for (std::size_t k = 0; k + 1 < along.size(); ++k) steps[k] = along[k + 1] - along[k];
  std::vector<double> sorted = steps;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[(sorted.size() - 1) / 2];
  const double tolerance = std::max(kStepToleranceShare * median, kStepToleranceMm);
  std::uint64_t missing = 0;
  bool uneven = false;
  std::vector<std::string> places;
  for (std::size_t k = 0; k < steps.size(); ++k) {
    const double multiple = std::max(1.0, std::nearbyint(steps[k] / median));
    if (std::abs(steps[k] - multiple * median) > tolerance * multiple) {
      uneven = true;
    } else if (multiple > 1) {
      missing += static_cast<std::uint64_t>(multiple) - 1;
      if (places.size() < kMaxPlaces) places.push_back(absl::StrCat(multiple - 1, " after k=", k));
    }
  }
  const std::string range = absl::StrCat(sorted.front(), ",", median, ",", sorted.back());
  if (uneven) {
    Reject(volume, "UNEVEN_SPACING", range,
           "distances between slices differ (smallest, median, largest, mm)");
    return;
  }
  if (missing > 0) {
    Reject(volume, "MISSING_SLICES", absl::StrCat(missing),
           absl::StrCat("slices are missing: ", absl::StrJoin(places, ", ")));
    return;
  }
  const double mean = (along.back() - along.front()) / static_cast<double>(steps.size());
  for (std::size_t k = 0; k < along.size(); ++k) {
    if (std::abs(along[k] - along.front() - mean * static_cast<double>(k)) >
        std::max(kDriftShare * median, kDriftMm)) {
      Reject(volume, "UNEVEN_SPACING", range,
             "distances between slices drift (smallest, median, largest, mm)");
      return;
    }
  }
}

// Slices that lie beside the line from the first to the last one.
void JudgeLine(const std::vector<Candidate>& slices, const Vector3& normal, const Vector3& step,
               Volume& volume) {
  const double tolerance =
      std::max(kShiftShare * std::min(slices.front().row_spacing, slices.front().column_spacing), kShiftMm);
  const double step_along = Dot(step, normal);
  std::uint32_t shifted = 0;
  for (const Candidate& slice : slices) {
    const Vector3 offset = Minus(slice.position, slices.front().position);
    const double steps = Dot(offset, normal) / step_along;
    if (Length(Minus(offset, Times(step, steps))) > tolerance) ++shifted;
  }
  if (shifted > 0) {
    Reject(volume, "SHIFTED_SLICES", absl::StrCat(shifted), "slices lie beside the line of the stack");
  }
}

void JudgeRescale(const std::vector<Candidate>& slices, Volume& volume) {
  std::uint32_t invalid = 0;
  std::uint32_t without = 0;
  for (const Candidate& slice : slices) {
    const Header& header = slice.header();
    const bool has = header.has_rescale_slope() || header.has_rescale_intercept();
    if (!has) ++without;
    if (header.has_rescale_slope() &&
        (!std::isfinite(header.rescale_slope()) || header.rescale_slope() == 0)) {
      ++invalid;
    } else if (header.has_rescale_intercept() && !std::isfinite(header.rescale_intercept())) {
      ++invalid;
    }
  }
  if (invalid > 0) {
    Reject(volume, "RESCALE_INVALID", absl::StrCat(invalid),
           "Rescale Slope is 0 or a rescale value is not finite");
  }
  if (without > 0 && without < slices.size()) {
    Reject(volume, "MIXED_RESCALE", absl::StrCat(without), "slices without rescale beside slices with it");
  }
  if (without == slices.size() && slices.front().header().modality() == "CT") {
    volume.reasons.push_back(
        MakeReason("NO_RESCALE", absl::StrCat(without),
                   "no Rescale Slope and Intercept: stored values are taken as they are"));
  }
}

}  // namespace

void FillSlices(const std::vector<Candidate>& slices, Volume& volume) {
  volume.slices.clear();
  if (slices.empty()) return;
  volume.representative = slices.front().header();
  bool lossy = false;
  double ratio = 0;
  for (const Candidate& slice : slices) {
    const Header& header = slice.header();
    volume.slices.push_back({slice.known.instance->index, 0, header.stored_type(),
                             header.has_rescale_slope() ? header.rescale_slope() : 1,
                             header.has_rescale_intercept() ? header.rescale_intercept() : 0,
                             slice.known.sop_instance_uid});
    lossy = lossy || header.lossy();
    ratio = std::max(ratio, header.lossy_ratio());
  }
  volume.representative.set_lossy(lossy);
  volume.representative.set_lossy_ratio(ratio);
}

Volume JudgeStack(const std::vector<Candidate>& unsorted) {
  Volume volume;
  volume.verdict = Verdict::kAccept;
  if (unsorted.empty()) {
    Reject(volume, "TOO_FEW_SLICES", "0", "no slice");
    return volume;
  }
  const Vector3 sorting_normal = Cross(unsorted.front().row, unsorted.front().column);
  std::vector<Candidate> slices = unsorted;
  std::sort(slices.begin(), slices.end(), [&](const Candidate& a, const Candidate& b) {
    const double x = Dot(a.position, sorting_normal);
    const double y = Dot(b.position, sorting_normal);
    return x != y ? x < y : a.known.sop_instance_uid < b.known.sop_instance_uid;
  });
  FillSlices(slices, volume);
  if (slices.size() < kMinSlices) {
    Reject(volume, "TOO_FEW_SLICES", absl::StrCat(slices.size()), "a volume needs at least two slices");
    return volume;
  }

  const Candidate& first = slices.front();
  Vector3 normal = Cross(first.row, first.column);
  normal = Times(normal, 1 / Length(normal));
  std::vector<double> along;
  for (const Candidate& slice : slices) along.push_back(Dot(slice.position, normal));
  const Vector3 step =
      Times(Minus(slices.back().position, first.position), 1 / static_cast<double>(slices.size() - 1));
  const double step_length = Length(step);

  JudgeSteps(along, volume);
  const double shear = Degrees(std::acos(std::clamp(Dot(step, normal) / step_length, -1.0, 1.0)));
  if (shear > kMaxShearDeg) {
    const bool ct = first.header().modality() == "CT";
    Reject(volume, ct ? "GANTRY_TILT" : "SHEAR", absl::StrCat(std::round(shear * 1000) / 1000),
           "the stack leans away from the normal of its slices (degrees)");
  }
  JudgeLine(slices, normal, step, volume);
  JudgeRescale(slices, volume);

  auto geometry = volume::Geometry::Create(
      {first.header().columns(), first.header().rows(), static_cast<std::uint32_t>(slices.size())},
      {first.column_spacing, first.row_spacing, step_length}, volume::LpsPoint{Times(first.position, 1)},
      {Times(first.row, 1), Times(first.column, 1), Times(step, 1 / step_length)});
  if (geometry.ok()) {
    volume.geometry = *std::move(geometry);
  } else {
    Reject(volume, base::ReasonOf(geometry.status()), base::ValueOf(geometry.status()),
           "the stack's grid is not usable");
  }
  return volume;
}

}  // namespace tomoserve::series
