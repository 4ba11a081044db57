// How the engine runs a network, for the calling thread.
#pragma once

#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <optional>

#include "engine/half_precision.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// While it lives: no gradients, no recompilation, and the recipe's precision. Confined to its thread.
class PassMode {
 public:
  PassMode(const v1::Recipe& recipe, const ComputeDevice& device) {
    if (device.is_cuda() && recipe.network().precision() == v1::PRECISION_FLOAT16) half_.emplace(at::kCUDA);
  }

 private:
  const c10::InferenceMode inference_;
  const torch::jit::GraphOptimizerEnabledGuard no_recompilation_{false};
  std::optional<HalfPrecision> half_;
};

}  // namespace tomoserve::engine
