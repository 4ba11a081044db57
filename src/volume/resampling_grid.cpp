#include "tomoserve/volume/resampling_grid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

absl::Status CheckTarget(const std::array<double, 3>& spacing_mm) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (!std::isfinite(spacing_mm[axis]) || spacing_mm[axis] <= 0) {
      return base::Error(absl::StatusCode::kInvalidArgument, "SPACING_INVALID", std::to_string(axis),
                         "a target spacing is not a positive number");
    }
  }
  return absl::OkStatus();
}

// `size` is rounded already.
absl::StatusOr<std::uint32_t> ToSize(double size) {
  if (size <= std::numeric_limits<std::uint32_t>::max()) return static_cast<std::uint32_t>(size);
  return base::Error(absl::StatusCode::kInvalidArgument, "GEOMETRY_INVALID", "size_ijk",
                     "the resampled grid is too large");
}

double LargestRatio(const std::array<double, 3>& spacing_mm) {
  const auto [smallest, largest] = std::minmax_element(spacing_mm.begin(), spacing_mm.end());
  return *largest / *smallest;
}

}  // namespace

absl::StatusOr<Geometry> MonaiSpacing(const Geometry& geometry, const std::array<double, 3>& spacing_mm) {
  constexpr double kNoChange = 1e-3;  // MONAI's AFFINE_TOL
  TS_RETURN_IF_ERROR(CheckTarget(spacing_mm));
  std::array<std::uint32_t, 3> size{};
  bool unchanged = true;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double ratio = geometry.spacing_mm()[axis] / spacing_mm[axis];
    const std::uint32_t old_size = geometry.size_ijk()[axis];
    // nearbyint rounds half to even in the default rounding mode.
    TS_ASSIGN_OR_RETURN(size[axis], ToSize(std::nearbyint(static_cast<double>(old_size - 1) * ratio + 1)));
    unchanged = unchanged && size[axis] == old_size && std::abs(1 / ratio - 1) <= kNoChange;
  }
  if (unchanged) return geometry;
  return Geometry::Create(size, spacing_mm, geometry.origin_lps(), geometry.directions());
}

absl::StatusOr<Geometry> NnunetSpacing(const Geometry& geometry, const std::array<double, 3>& spacing_mm) {
  TS_RETURN_IF_ERROR(CheckTarget(spacing_mm));
  std::array<std::uint32_t, 3> size{};
  std::array<double, 3> spacing = geometry.spacing_mm();
  ContinuousVoxel first;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::uint32_t old_size = geometry.size_ijk()[axis];
    // In this order of operations, which decides halves.
    const double new_size = std::nearbyint(spacing[axis] / spacing_mm[axis] * old_size);
    TS_ASSIGN_OR_RETURN(size[axis], ToSize(std::max(new_size, 1.0)));
    const double step = static_cast<double>(old_size) / size[axis];
    spacing[axis] *= step;
    first.ijk[axis] = step / 2 - 0.5;
  }
  if (size == geometry.size_ijk()) return geometry;
  return Geometry::Create(size, spacing, geometry.ToLps(first), geometry.directions());
}

std::optional<std::size_t> LowResolutionAxis(const std::array<double, 3>& from,
                                             const std::array<double, 3>& to) {
  constexpr double kSeparateAbove = 3;  // nnU-Net's ANISO_THRESHOLD
  const std::array<double, 3>& spacing = LargestRatio(from) > kSeparateAbove ? from : to;
  if (!(LargestRatio(spacing) > kSeparateAbove)) return std::nullopt;
  const auto largest = std::max_element(spacing.begin(), spacing.end());
  if (std::count(spacing.begin(), spacing.end(), *largest) > 1) return std::nullopt;
  return static_cast<std::size_t>(largest - spacing.begin());
}

Box WholeBox(const Geometry& geometry) { return {{}, geometry.size_ijk()}; }

absl::StatusOr<Geometry> Part(const Geometry& geometry, const Box& box) {
  ContinuousVoxel first;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (std::uint64_t{box.first_ijk[axis]} + box.size_ijk[axis] > geometry.size_ijk()[axis]) {
      return base::Error(absl::StatusCode::kInvalidArgument, "GEOMETRY_INVALID", "box",
                         "the box does not lie inside the grid");
    }
    first.ijk[axis] = box.first_ijk[axis];
  }
  if (box == WholeBox(geometry)) return geometry;
  return Geometry::Create(box.size_ijk, geometry.spacing_mm(), geometry.ToLps(first), geometry.directions());
}

}  // namespace tomoserve::volume
