// Grids that resampling rules prescribe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::volume {

// Grid of MONAI's Spacing transform: along each axis round((n-1) * in/out + 1) voxels (half to even), the
// first voxel centres aligned, directions kept. Where every in/out is within 1e-3 of 1 and no size changes,
// the transform does nothing: `geometry` itself comes back, with its own spacing. Spacings are those of
// `geometry`'s axes i, j, k: reorient first.
// Errors: kInvalidArgument SPACING_INVALID (value: the axis) where a spacing is not a positive number,
// GEOMETRY_INVALID where the grid would be too large.
absl::StatusOr<Geometry> MonaiSpacing(const Geometry& geometry, const std::array<double, 3>& spacing_mm);

// Grid of nnU-Net's resampling: along each axis round(in/out * n) voxels (half to even, at least 1) between
// the same two edges, so that its spacing is only nearly the stated one. Where no size changes, `geometry`
// itself comes back. Errors: as above.
absl::StatusOr<Geometry> NnunetSpacing(const Geometry& geometry, const std::array<double, 3>& spacing_mm);

// The axis that nnU-Net resamples apart from the other two, from a grid of spacing `from` to one of spacing
// `to`: that of the largest spacing, where this is more than three times the smallest one, in `from` or else
// in `to`. None where two axes share it.
std::optional<std::size_t> LowResolutionAxis(const std::array<double, 3>& from,
                                             const std::array<double, 3>& to);

// Some voxels of a grid.
struct Box {
  std::array<std::uint32_t, 3> first_ijk{};
  std::array<std::uint32_t, 3> size_ijk{};
  bool operator==(const Box&) const = default;
};

Box WholeBox(const Geometry& geometry);

// Grid of the voxels in `box`. Errors: kInvalidArgument GEOMETRY_INVALID where it is empty or does not lie
// inside.
absl::StatusOr<Geometry> Part(const Geometry& geometry, const Box& box);

}  // namespace tomoserve::volume
