// The network as the pipeline sees it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::pipeline {

// One forward pass: input [1, C, spatial...] float32, contiguous, of the run's input shape; output
// [1, C_out, spatial...] float32. Spatial axes in the recipe's order. May be called from several threads at a
// time if several windows are computed at a time. Must not keep the input.
using Forward = std::function<absl::StatusOr<at::Tensor>(const at::Tensor& input)>;

// Mean of the outputs over all combinations of mirrored spatial dimensions (nnU-Net's test-time augmentation:
// the plain input first, then one axis at a time, pairs, all), each mirrored back. `dimensions` are
// dimensions of the tensors; empty: one plain pass. Errors: NETWORK_OUTPUT_SHAPE where outputs differ in
// shape; those of `forward`.
absl::StatusOr<at::Tensor> ForwardMirrored(const at::Tensor& input,
                                           const std::vector<std::int64_t>& dimensions,
                                           const Forward& forward);

}  // namespace tomoserve::pipeline
