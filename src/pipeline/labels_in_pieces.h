// Labels on the model grid, made cell by cell while windows are folded: only cells that later windows still
// add to hold the sums of all channels. For recipes of which volume::MakesLabelsInPieces is true.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "pipeline/labeller.h"
#include "pipeline/made_labels.h"
#include "tomoserve/compute/open_sums.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Confined to one thread. May throw what ATen throws.
class LabelsInPieces {
 public:
  // `recipe` has one network. References; both must outlive this object. `importance` as in OpenSums.
  LabelsInPieces(const v1::Recipe& recipe, const RunPlan& plan, at::Tensor importance);

  // Adds a window's output [c][x][y][z] (changed), in window order.
  void Add(std::uint32_t window, const at::Tensor& output);

  // After the last window, once.
  MadeLabels Take() { return std::move(made_); }

 private:
  void MakeLabels(const compute::FinalCell& cell);

  compute::Xyz strides_{};  // in the model grid's memory, along x, y, z
  std::int64_t channels_;
  std::vector<v1::Activation> activations_;
  Labeller<std::uint16_t> labeller_;
  std::vector<std::vector<std::int64_t>> channels_of_;  // by label as it is made; empty: no score is needed
  compute::OpenSums sums_;
  MadeLabels made_;
};

}  // namespace tomoserve::pipeline
