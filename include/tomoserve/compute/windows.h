// Cutting a prepared volume into windows and putting their outputs together again. Every position is in
// voxels of the model grid's logical axes x, y, z.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::compute {

using Xyz = std::array<std::int64_t, 3>;

// Most windows that a run may have.
inline constexpr std::int64_t kMaxWindows = volume::kMaxWindows;

// All windows of a run: one size, starts in the order in which outputs are summed. A start may lie before the
// volume and an end after it: padding.
struct WindowPlan {
  Xyz size{};               // of the network's input
  std::vector<Xyz> starts;  // of the input
  Xyz output_size{};        // of the network's output
  Xyz output_offset{};      // of the output's first voxel from the input's start
};

// MONAI's SlidingWindowInferer: volume padded to the window on both sides (before: half, rounded down),
// interval int(size * (1 - overlap)), at least 1, last window snapped to the end, x slowest, z fastest.
// Errors: kInvalidArgument WINDOW_INVALID, kResourceExhausted TOO_MANY_WINDOWS (value: how many).
absl::StatusOr<WindowPlan> MonaiWindows(const Xyz& volume_size, const Xyz& window_size, double overlap);

// One window per z: x and y whole, padded at their end to `xy_multiple_of`; `before` and `after` more slices.
// The output is one slice. Errors: as above.
absl::StatusOr<WindowPlan> SliceWindows(const Xyz& volume_size, std::int64_t before, std::int64_t after,
                                        std::int64_t xy_multiple_of);

// MONAI's Gaussian importance map, float32 [x][y][z]: product of profiles around -(size-1)/2 with
// sigma = sigma_scale * size, raised to at least max(own minimum, 1e-3).
at::Tensor GaussianImportance(const Xyz& size, double sigma_scale);

// The part of `volume` (logical [x][y][z]) that a window covers, contiguous [x][y][z], padded.
at::Tensor CutWindow(const at::Tensor& volume, const Xyz& start, const Xyz& size, v1::PaddingMode padding,
                     double padding_value);

// The part of `volume` (logical [..., x, y, z]) that a window covers: a view.
at::Tensor Covered(const at::Tensor& volume, const Xyz& start, const Xyz& size);

// sums[c][x][y][z] += window[c][x][y][z] (* importance[x][y][z] if defined) where the window lies inside.
// Both are logical views of any strides; `window` may be changed.
void AddWindow(const at::Tensor& window, const at::Tensor& importance, const Xyz& start, at::Tensor& sums);

// Sum of all windows' weights over a volume, logical view `weights` [x][y][z], in window order.
void AddWeights(const WindowPlan& plan, const at::Tensor& importance, at::Tensor& weights);

}  // namespace tomoserve::compute
