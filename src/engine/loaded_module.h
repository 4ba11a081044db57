// One TorchScript file, from its bytes to a module that can be run. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// Immutable.
struct LoadedModule {
  torch::jit::Module module;  // frozen where it may be
  at::ScalarType input = at::kFloat;
  WeightFormats formats;
  std::uint64_t weight_bytes = 0;  // as they are held
  bool branches_on_values = false;

  // A copy of a float32 window, as the module takes it: it may write into its input, and answer with it.
  at::Tensor OwnInput(const at::Tensor& window) const;
};

// Network::Load of one file. A network whose weights are not float32 is tried with a window of `window_shape`
// in these ways; the first one that it does not fail in is taken:
//   on a CPU, which has no good kernels for half precision, half and bfloat16 weights as float32: exact;
//   as it is, with float32 windows, which the network casts itself;
//   as it is, with windows in the format of its weights.
// Of one that fails in each it is left to the warm-up to say why. Errors: MODEL_DIGEST_MISMATCH,
// MODEL_UNREADABLE, MODEL_FORBIDDEN_OP (values as in Network::Load), OUT_OF_MEMORY.
absl::StatusOr<LoadedModule> LoadModule(int fd, std::string_view name, std::string_view sha256,
                                        const v1::Recipe& recipe, std::span<const std::int64_t> window_shape,
                                        const ComputeDevice& device);

}  // namespace tomoserve::engine
