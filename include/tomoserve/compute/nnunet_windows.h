// nnU-Net v2's sliding windows: where they start, how they are weighted and how their sums are rounded.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>

#include "absl/status/statusor.h"
#include "tomoserve/compute/windows.h"

namespace tomoserve::compute {

// Per axis ceil((n - size) / (size * (1 - overlap))) + 1 windows, evenly spaced, starts rounded half to even;
// one for each voxel where the window has one. The volume is padded to the window on both sides (before:
// half, rounded down). `slowest_first` orders the axes. Errors: as MonaiWindows; `overlap` in (0, 1).
absl::StatusOr<WindowPlan> NnunetWindows(const Xyz& volume_size, const Xyz& window_size, double overlap,
                                         const std::array<std::size_t, 3>& slowest_first);

// Weights [x][y][z] as nnU-Net's compute_gaussian has them: SciPy's gaussian_filter of a one at size / 2 with
// sigma = sigma_scale * size and ends cut at 4 sigma, largest weight 10, rounded to float16, zeros raised to
// the smallest other weight. Float32 that holds these values.
at::Tensor NnunetImportance(const Xyz& size, double sigma_scale);

// nnU-Net sums in float16 arrays: windows that only reach a place with their corners weigh 2^-24 there, so
// that its logits are whole numbers, and ties go to the first channel. These do it the same way in float32
// arrays.

// To what float16 can hold, in place; any device, shape and strides.
void RoundToHalf(const at::Tensor& values);

// AddWindow (compute/windows.h), rounded.
void AddWindowInHalf(const at::Tensor& window, const at::Tensor& importance, const Xyz& start,
                     at::Tensor& sums);

// AddWeights, rounded after each window.
void AddWeightsInHalf(const WindowPlan& plan, const at::Tensor& importance, at::Tensor& weights);

}  // namespace tomoserve::compute
