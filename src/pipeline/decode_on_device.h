// DecodeLabels with tensor operations.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "pipeline/tensor_scores.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// On a device, of type compute::on_device::kLabelType<Label>.
struct DeviceLabels {
  at::Tensor labels;  // [k][j][i] of the volume
  at::Tensor model;   // what DecodeLabels gives; undefined where that is none
};

// Labels on `device`. Otherwise as DecodeLabels. May throw what ATen throws.
template <typename Label>
absl::StatusOr<DeviceLabels> DecodeOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                            const compute::GridMap& to_volume, const at::Tensor& region,
                                            at::Device device, TensorScores& scores,
                                            const compute::Parallel& parallel);

// Labels as one network makes them and the scores of their own labels, both on the grid where they are made:
// int16 that holds the bits of uint16, and float32, undefined where no rule makes findings.
struct TensorLabels {
  at::Tensor labels;
  at::Tensor scores;
};

// MakeLabels with tensor operations. May throw what ATen throws.
absl::StatusOr<TensorLabels> MakeLabelsOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                                const compute::GridMap& to_volume, at::Device device,
                                                TensorScores& scores, const compute::Parallel& parallel);

// DecodeMadeLabels with tensor operations: the steps after arg_max or threshold, to which scores follow.
template <typename Label>
absl::StatusOr<DeviceLabels> ChangeLabelsOnDevice(const v1::Recipe& recipe, const compute::GridMap& to_volume,
                                                  const at::Tensor& region, at::Tensor labels,
                                                  TensorScores& scores, const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
