// The network as the pipeline sees it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::pipeline {

// What a network answers to one window: one tensor of scores, or the maps of a detector (per level the
// classification map, then per level the box map).
struct Outputs {
  Outputs() = default;
  // Most networks answer one tensor.
  Outputs(at::Tensor scores) : tensors{std::move(scores)} {}           // NOLINT(google-explicit-constructor)
  Outputs(std::vector<at::Tensor> maps) : tensors(std::move(maps)) {}  // NOLINT(google-explicit-constructor)
  std::vector<at::Tensor> tensors;
  bool known_finite = false;  // somebody has looked at every value
};

// One forward pass: input [1, C, spatial...] float32, contiguous, of the run's input shape; outputs
// [1, C_out, spatial...] float32. Spatial axes in the recipe's order. May be called from several threads at a
// time if several windows are computed at a time. Must not keep the input.
using Forward = std::function<absl::StatusOr<Outputs>(const at::Tensor& input)>;

// Mean of the outputs over all combinations of mirrored spatial dimensions (nnU-Net's test-time augmentation:
// the plain input first, then one axis at a time, pairs, all), each mirrored back. `dimensions` are
// dimensions of the tensors; empty: one plain pass. Errors: NETWORK_OUTPUT_SHAPE where outputs differ in
// shape or are several; those of `forward`.
absl::StatusOr<Outputs> ForwardMirrored(const at::Tensor& input, const std::vector<std::int64_t>& dimensions,
                                        const Forward& forward);

}  // namespace tomoserve::pipeline
