// Grids that resampling rules prescribe.
#pragma once

#include <array>

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

}  // namespace tomoserve::volume
