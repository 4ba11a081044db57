#include "tomoserve/volume/resampling_grid.h"

#include <cmath>
#include <limits>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {

absl::StatusOr<Geometry> MonaiSpacing(const Geometry& geometry, const std::array<double, 3>& spacing_mm) {
  constexpr double kNoChange = 1e-3;  // MONAI's AFFINE_TOL
  std::array<std::uint32_t, 3> size{};
  bool unchanged = true;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (!std::isfinite(spacing_mm[axis]) || spacing_mm[axis] <= 0) {
      return base::Error(absl::StatusCode::kInvalidArgument, "SPACING_INVALID", std::to_string(axis),
                         "a target spacing is not a positive number");
    }
    const double ratio = geometry.spacing_mm()[axis] / spacing_mm[axis];
    const std::uint32_t old_size = geometry.size_ijk()[axis];
    // nearbyint rounds half to even in the default rounding mode.
    const double new_size = std::nearbyint(static_cast<double>(old_size - 1) * ratio + 1);
    if (!(new_size <= std::numeric_limits<std::uint32_t>::max())) {
      return base::Error(absl::StatusCode::kInvalidArgument, "GEOMETRY_INVALID", "size_ijk",
                         "the resampled grid is too large");
    }
    size[axis] = static_cast<std::uint32_t>(new_size);
    unchanged = unchanged && size[axis] == old_size && std::abs(1 / ratio - 1) <= kNoChange;
  }
  if (unchanged) return geometry;
  return Geometry::Create(size, spacing_mm, geometry.origin_lps(), geometry.directions());
}

}  // namespace tomoserve::volume
