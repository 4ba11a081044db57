// Cubic B-splines with prefilter along a GridMap, as scipy.ndimage.zoom(order=3, mode='nearest',
// grid_mode=True) has them: the input goes on with its edge values without end (SciPy's for 12 voxels and is
// mirrored then, which is 1e-14 of a value), and what comes out is clipped to the input's range, or where an
// axis is read by nearest to that of each plane across it. Axes are independent. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Root of the prefilter: sqrt(3) - 2.
inline constexpr double kSplinePole = -0.26794919243112270647;

// What an output at `place` takes from the spline's four coefficients from `first` on.
struct SplineTaps {
  std::int64_t first = 0;
  std::array<double, 4> weights{};
};
SplineTaps TapsAt(double place);

// One step of the work on an array [d0][d1][d2].
struct CubicPass {
  enum class Kind { kSpline, kPick, kRange, kClip };
  Kind kind = Kind::kSpline;
  std::size_t axis = 0;  // of kSpline and kPick
};

// Splines along the axes that change, first where the array becomes smallest; axes that only pick voxels
// before them where that leaves less, else after them; clipping after the last spline, to the range of the
// source, planes that are not read left out.
std::vector<CubicPass> CubicPasses(const GridMap& map);

// The axis that is read by nearest, whose planes have ranges of their own; -1: none.
int PlaneAxis(const GridMap& map);

// Plain loops, sums in double, each pass rounded to float32. `source` is contiguous float32 of the map's
// input sizes, on the CPU, and is let go once it has been read. Errors: those of ParallelFor. May throw what
// ATen throws.
absl::StatusOr<at::Tensor> ResampleCubic(at::Tensor source, const GridMap& map, const Parallel& parallel);

}  // namespace tomoserve::compute
