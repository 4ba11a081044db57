// The geometry verdict of one stack: order, affine, gaps, tilt. PS3.3 C.7.6.2.1.1; docs/GEOMETRY.md.
#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"
#include "tomoserve/base/status.h"

namespace tomoserve::series {
namespace {

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
// No gantry tilts further (30 degrees is usual).
constexpr double kMaxTiltDeg = 45;
// Shifts are rounded to this many pixels, so that rounding errors of positions cost no row of voxels.
constexpr double kShiftStepPx = 1e-3;
// Slices this much thicker than the median one are further apart because of it.
constexpr double kThickShare = 1.5;
// A tilt that the header states and that is larger than this must show in the slices' places, degrees.
constexpr double kMinStatedTiltDeg = 0.5;
// At most so many places of missing slices are named.
constexpr std::size_t kMaxPlaces = 8;

double Degrees(double radians) { return radians * 180 / 3.14159265358979323846; }

void ResampleFor(Volume& volume, std::string_view code, std::string_view value, std::string_view text) {
  if (volume.verdict == Verdict::kAccept) volume.verdict = Verdict::kResample;
  volume.reasons.push_back(MakeReason(code, value, text));
}

// Whether larger steps are those of thicker slices, and nothing is missing between them: slices beside such a
// step (`gaps`: numbers of steps, ascending) are thicker than the others, or all of these steps lie at one
// end of the stack.
bool ChangesSpacing(const std::vector<Candidate>& slices, const std::vector<std::size_t>& gaps) {
  if (gaps.size() >= 2 && gaps.back() - gaps.front() + 1 == gaps.size() &&
      (gaps.front() == 0 || gaps.back() + 2 == slices.size())) {
    return true;
  }
  std::vector<double> known;
  for (const Candidate& slice : slices) {
    const double thickness = slice.SliceThicknessMm().value_or(0);
    if (std::isfinite(thickness) && thickness > 0) known.push_back(thickness);
  }
  if (known.empty()) return false;
  std::sort(known.begin(), known.end());
  const double thick = kThickShare * known[(known.size() - 1) / 2];
  return std::any_of(gaps.begin(), gaps.end(), [&](std::size_t gap) {
    return slices[gap].SliceThicknessMm().value_or(0) >= thick ||
           slices[gap + 1].SliceThicknessMm().value_or(0) >= thick;
  });
}

// Sets each slice's place in the grid, from 0: one after the other, or with room for missing slices where
// every step is a multiple of the median. `slices` are sorted, `along` their places along the normal, mm.
std::vector<std::uint32_t> JudgeSteps(const std::vector<Candidate>& slices, const std::vector<double>& along,
                                      Volume& volume) {
  std::vector<std::uint32_t> one_by_one(along.size());
  for (std::size_t n = 0; n < along.size(); ++n) one_by_one[n] = static_cast<std::uint32_t>(n);
  std::vector<double> steps(along.size() - 1);
  for (std::size_t n = 0; n + 1 < along.size(); ++n) steps[n] = along[n + 1] - along[n];
  std::vector<double> sorted = steps;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[(sorted.size() - 1) / 2];
  const double tolerance = std::max(kStepToleranceShare * median, kStepToleranceMm);
  const std::string range = absl::StrCat(sorted.front(), ",", median, ",", sorted.back());
  const auto uneven = [&](std::string_view text) {
    RejectFor(volume, "UNEVEN_SPACING", range, text);
    return one_by_one;
  };

  std::uint64_t missing = 0;
  std::vector<std::string> places;
  std::vector<std::size_t> gaps;
  std::vector<std::uint32_t> at(along.size());
  for (std::size_t n = 0; n < steps.size(); ++n) {
    const double multiple = std::max(1.0, std::nearbyint(steps[n] / median));
    if (!(std::abs(steps[n] - multiple * median) <= tolerance * multiple)) {
      return uneven("distances between slices differ (smallest, median, largest, mm)");
    }
    if (multiple > 1) {
      missing += static_cast<std::uint64_t>(multiple) - 1;
      gaps.push_back(n);
      if (places.size() < kMaxPlaces) places.push_back(absl::StrCat(multiple - 1, " after k=", n));
    }
    at[n + 1] = static_cast<std::uint32_t>(n + 1 + std::min<std::uint64_t>(missing, along.size()));
  }
  if (ChangesSpacing(slices, gaps)) {
    return uneven("the distance between slices changes within the stack (smallest, median, largest, mm)");
  }
  if (missing > along.size()) {
    RejectFor(volume, "MISSING_SLICES", absl::StrCat(missing),
              absl::StrCat("more slices are missing than there are: ", absl::StrJoin(places, ", ")));
    return one_by_one;
  }
  const double mean = (along.back() - along.front()) / static_cast<double>(at.back());
  for (std::size_t n = 0; n < along.size(); ++n) {
    if (std::abs(along[n] - along.front() - mean * at[n]) > std::max(kDriftShare * median, kDriftMm)) {
      return uneven("distances between slices drift (smallest, median, largest, mm)");
    }
  }
  if (missing > 0) {
    ResampleFor(volume, "MISSING_SLICES", absl::StrCat(missing),
                absl::StrCat("slices are missing: ", absl::StrJoin(places, ", ")));
  }
  return at;
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
    RejectFor(volume, "SHIFTED_SLICES", absl::StrCat(shifted), "slices lie beside the line of the stack");
  }
}

// A tilt of the gantry that a CT's header states, but neither the slices' plane (it is axial) nor the stack
// (it is not sheared) shows.
void JudgeStatedTilt(const std::vector<Candidate>& slices, const Vector3& normal, double shear_deg,
                     Volume& volume) {
  if (slices.front().header().modality() != "CT" || shear_deg > kMaxShearDeg) return;
  if (Degrees(std::acos(std::min(1.0, std::abs(normal[2])))) > kMaxShearDeg) return;
  double stated = 0;
  for (const Candidate& slice : slices) {
    const double tilt = slice.header().gantry_tilt_deg();
    if (std::isfinite(tilt) && std::abs(tilt) > std::abs(stated)) stated = tilt;
  }
  if (std::abs(stated) <= kMinStatedTiltDeg) return;
  volume.reasons.push_back(
      MakeReason("GANTRY_TILT_UNCONFIRMED", absl::StrCat(stated),
                 "the header states a tilted gantry (degrees), the slices' places show none"));
}

// A grid with k along the slices' normal that holds slices shifted in their planes.
struct ShiftedGrid {
  std::array<std::uint32_t, 3> size_ijk{};
  Vector3 origin{};
  // How far slice k lies into the grid, pixels along i and j.
  std::vector<std::array<double, 2>> shift_ij;
};

// The smallest grid, in whole pixels, that holds slices of `size_ijk` at the first one's position + k *
// `step`. Nothing where it would be more than twice as large.
std::optional<ShiftedGrid> FitShiftedGrid(const std::array<std::uint32_t, 3>& size_ijk,
                                          const Candidate& first, const Vector3& step) {
  ShiftedGrid grid{size_ijk, first.position, {}};
  grid.shift_ij.resize(size_ijk[2]);
  const std::array<Vector3, 2> axes{first.row, first.column};
  const std::array<double, 2> spacing{first.column_spacing, first.row_spacing};
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const double px_per_slice = Dot(step, axes[axis]) / spacing[axis];
    const auto offset = [&](std::size_t k) {
      return std::round(px_per_slice * static_cast<double>(k) / kShiftStepPx) * kShiftStepPx;
    };
    const double last = offset(size_ijk[2] - 1);
    if (!(std::abs(last) <= size_ijk[axis])) return std::nullopt;
    const double before = std::ceil(std::max(0.0, -last));
    const double after = std::ceil(std::max(0.0, last));
    for (std::size_t k = 0; k < grid.shift_ij.size(); ++k) grid.shift_ij[k][axis] = offset(k) + before;
    grid.size_ijk[axis] += static_cast<std::uint32_t>(before + after);
    grid.origin = Minus(grid.origin, Times(axes[axis], before * spacing[axis]));
  }
  return grid;
}

// Fills `slices` for each slice of the grid from the acquired ones, which are at the places `at`.
void FillGaps(const std::vector<std::uint32_t>& at, Volume& volume) {
  if (at.back() + 1 == volume.slices.size()) return;
  std::vector<VolumeSlice> acquired = std::move(volume.slices);
  volume.slices.clear();
  for (std::size_t n = 0; n < acquired.size(); ++n) {
    if (n > 0) {
      const double steps = at[n] - at[n - 1];
      for (std::uint32_t k = at[n - 1] + 1; k < at[n]; ++k) {
        const double weight = (k - at[n - 1]) / steps;
        VolumeSlice missing = weight < 0.5 ? acquired[n - 1] : acquired[n];
        missing.synthetic = Synthetic{at[n - 1], at[n], weight};
        volume.slices.push_back(std::move(missing));
      }
    }
    volume.slices.push_back(acquired[n]);
  }
}

absl::StatusOr<volume::Geometry> Grid(const std::array<std::uint32_t, 3>& size_ijk, const Candidate& first,
                                      double step_mm, const Vector3& origin, const Vector3& along_k) {
  return volume::Geometry::Create(size_ijk, {first.column_spacing, first.row_spacing, step_mm},
                                  volume::LpsPoint{Times(origin, 1)},
                                  {Times(first.row, 1), Times(first.column, 1), Times(along_k, 1)});
}

}  // namespace

Volume JudgeStack(const std::vector<Candidate>& unsorted) {
  Volume volume;
  volume.verdict = Verdict::kAccept;
  if (unsorted.empty()) {
    RejectFor(volume, "TOO_FEW_SLICES", "0", "no slice");
    return volume;
  }
  const Vector3 sorting_normal = Cross(unsorted.front().row, unsorted.front().column);
  std::vector<Candidate> slices = unsorted;
  std::sort(slices.begin(), slices.end(), [&](const Candidate& a, const Candidate& b) {
    const double x = Dot(a.position, sorting_normal);
    const double y = Dot(b.position, sorting_normal);
    if (x != y) return x < y;
    return std::tie(a.known->sop_instance_uid, a.frame) < std::tie(b.known->sop_instance_uid, b.frame);
  });
  FillSlices(slices, volume);
  if (slices.size() < kMinSlices) {
    RejectFor(volume, "TOO_FEW_SLICES", absl::StrCat(slices.size()), "a volume needs at least two slices");
    return volume;
  }

  const Candidate& first = slices.front();
  Vector3 normal = Cross(first.row, first.column);
  normal = Times(normal, 1 / Length(normal));
  std::vector<double> along;
  for (const Candidate& slice : slices) along.push_back(Dot(slice.position, normal));
  const std::vector<std::uint32_t> at = JudgeSteps(slices, along, volume);
  const Vector3 step =
      Times(Minus(slices.back().position, first.position), 1 / static_cast<double>(at.back()));
  const double step_mm = Length(step);
  const double normal_step_mm = Dot(step, normal);
  const std::array<std::uint32_t, 3> size{first.columns(), first.rows(), at.back() + 1};

  const double shear = Degrees(std::acos(std::clamp(normal_step_mm / step_mm, -1.0, 1.0)));
  std::optional<ShiftedGrid> shifted;
  if (shear > kMaxShearDeg) {
    const std::string degrees = absl::StrCat(std::round(shear * 1000) / 1000);
    const bool ct = first.header().modality() == "CT";
    if (ct && shear <= kMaxTiltDeg) shifted = FitShiftedGrid(size, first, step);
    if (shifted) {
      ResampleFor(volume, "GANTRY_TILT", degrees,
                  "the gantry was tilted (degrees): slices are shifted in-plane");
    } else if (ct && shear <= kMaxTiltDeg) {
      RejectFor(volume, "GANTRY_TILT", degrees,
                "the gantry was tilted (degrees), and the first and the last slice are shifted against each "
                "other by more than an image's size");
    } else {
      RejectFor(volume, ct ? "GANTRY_TILT" : "SHEAR", degrees,
                "the stack leans away from the normal of its slices (degrees)");
    }
  }
  JudgeStatedTilt(slices, normal, shear, volume);
  JudgeLine(slices, normal, step, volume);
  JudgeValues(slices, volume);

  const bool tilted = shifted && volume.verdict == Verdict::kResample;
  auto geometry = tilted ? Grid(shifted->size_ijk, first, normal_step_mm, shifted->origin, normal)
                         : Grid(size, first, step_mm, first.position, Times(step, 1 / step_mm));
  if (!geometry.ok()) {
    RejectFor(volume, base::ReasonOf(geometry.status()), base::ValueOf(geometry.status()),
              "the stack's grid is not usable");
    return volume;
  }
  volume.geometry = *std::move(geometry);
  if (volume.verdict != Verdict::kResample) return volume;
  FillGaps(at, volume);
  volume.acquired = volume.geometry;
  if (tilted) {
    for (std::size_t k = 0; k < volume.slices.size(); ++k) volume.slices[k].shift_ij = shifted->shift_ij[k];
    // Smaller than the grid above, and as valid.
    volume.acquired = Grid(size, first, normal_step_mm, first.position, normal).value();
  }
  return volume;
}

}  // namespace tomoserve::series
