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

// Labels [k][j][i] of the volume on `device`, of type compute::on_device::kLabelType<Label>. Otherwise as
// DecodeLabels. May throw what ATen throws.
template <typename Label>
absl::StatusOr<at::Tensor> DecodeOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                          const compute::GridMap& to_volume, const at::Tensor& region,
                                          at::Device device, TensorScores& scores,
                                          const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
