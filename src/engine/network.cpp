#include "tomoserve/engine/network.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/div.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/jit/api/module.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/failure.h"
#include "engine/loaded_module.h"
#include "engine/network_output.h"
#include "engine/output_bits.h"
#include "engine/pass_mode.h"
#include "engine/test_pattern.h"
#include "engine/window_shape.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

constexpr std::size_t kTimedPasses = 3;
constexpr double kTimedMs = 1500;
// A first pass this long is its own measurement: what is paid once does not show in it.
constexpr double kSlowPassMs = 10'000;

// At warm-up: it is the recipe's fault, or its network's.
constexpr char kFailsOnWindow[] =
    "windows.size, network.axes or network.input_channels: the network fails on a window of this shape";

struct Pass {
  double ms = 0;
  std::string bits;  // digest of the outputs
};

}  // namespace

struct Network::State {
  v1::Recipe recipe;
  ComputeDevice device;
  std::vector<std::int64_t> window_shape;
  std::vector<LoadedModule> modules;
  std::mutex mutex;
  std::string warm_up_bits;  // of the first warm-up's output; guarded by mutex

  // Forward with the exceptions let through.
  absl::StatusOr<std::vector<at::Tensor>> Run(const at::Tensor& input) const {
    const PassMode mode(recipe, device);
    std::vector<at::Tensor> sums;
    for (const LoadedModule& loaded : modules) {
      // Its output may be a part of the module itself.
      TS_ASSIGN_OR_RETURN(
          std::vector<at::Tensor> outputs,
          CheckedOutputs(loaded.module.get_method("forward")({loaded.OwnInput(input)}), input, recipe));
      for (std::size_t n = 0; n < sums.size(); ++n) outputs[n] = at::add(sums[n], outputs[n]);
      sums = std::move(outputs);
    }
    if (modules.size() == 1) return sums;
    for (at::Tensor& sum : sums) sum = at::div(sum, static_cast<double>(modules.size()));
    return sums;
  }

  // Run, tried again with all memory that can be had. Errors of the device that come late are another call's.
  absl::StatusOr<std::vector<at::Tensor>> RunWithinMemory(const at::Tensor& input, absl::StatusCode code,
                                                          std::string_view reason,
                                                          std::string_view what) const {
    const auto run = [&]() -> absl::StatusOr<std::vector<at::Tensor>> {
      try {
        return Run(input);
      } catch (...) {
        return CurrentException(code, reason, ShapeText(input.sizes()), what);
      }
    };
    if (!device.is_cuda()) return run();
    return WithinMemory(
        run, [&] { device.FreeCache(); }, [&] { return device.IsMemoryLow(); });
  }

  absl::StatusOr<Pass> Time(const at::Tensor& input) const {
    const double begin_ms = base::MonotonicMs();
    TS_ASSIGN_OR_RETURN(
        const std::vector<at::Tensor> outputs,
        RunWithinMemory(input, absl::StatusCode::kInvalidArgument, "MODEL_SHAPE", kFailsOnWindow));
    device.Synchronise();
    const double ms = base::MonotonicMs() - begin_ms;
    return Pass{ms, BitsOf(outputs)};
  }
};

Network::Network(std::unique_ptr<State> state) : state_(std::move(state)) {}
Network::~Network() = default;

absl::StatusOr<std::shared_ptr<Network>> Network::Load(std::span<const int> fds, const v1::Recipe& recipe,
                                                       std::span<const std::string> file_sha256,
                                                       const ComputeDevice& device) {
  InitialiseTorch();
  auto state = std::make_unique<State>();
  state->recipe = recipe;
  state->device = device;
  const auto files = static_cast<std::size_t>(recipe.network().files_size());
  if (files == 0 || fds.size() != files || file_sha256.size() != files) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", "network.files",
                       "one descriptor and one digest per file");
  }
  TS_ASSIGN_OR_RETURN(state->window_shape, WindowShape(recipe));
  try {
    device.Use();
  } catch (...) {
    return CurrentException(absl::StatusCode::kUnavailable, "DEVICE_UNAVAILABLE", device.device().str(),
                            "the device is gone");
  }
  for (std::size_t i = 0; i < files; ++i) {
    TS_ASSIGN_OR_RETURN(LoadedModule module, LoadModule(fds[i], recipe.network().files(static_cast<int>(i)),
                                                        file_sha256[i], recipe, state->window_shape, device));
    state->modules.push_back(std::move(module));
  }
  return std::shared_ptr<Network>(new Network(std::move(state)));
}

absl::StatusOr<double> Network::WarmUp() const {
  const std::string shape = ShapeText(state_->window_shape);
  try {
    state_->device.Use();
    const c10::InferenceMode inference;
    const at::Tensor window = TestPattern(state_->window_shape, 0.37).to(state_->device.device());
    TS_ASSIGN_OR_RETURN(const Pass first, state_->Time(window));
    std::vector<double> ms;
    double timed_ms = 0;
    if (first.ms > kSlowPassMs) {
      ms.push_back(first.ms);
      timed_ms = first.ms;
    }
    bool same_bits = true;
    while (same_bits && (ms.empty() || (ms.size() < kTimedPasses && timed_ms < kTimedMs))) {
      TS_ASSIGN_OR_RETURN(const Pass pass, state_->Time(window));
      ms.push_back(pass.ms);
      timed_ms += pass.ms;
      same_bits = pass.bits == first.bits;
    }
    const std::lock_guard lock(state_->mutex);
    if (state_->warm_up_bits.empty()) state_->warm_up_bits = first.bits;
    if (!same_bits || first.bits != state_->warm_up_bits) {
      return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_NOT_DETERMINISTIC", shape,
                         "two passes over the same window gave different outputs");
    }
    std::nth_element(ms.begin(), ms.begin() + static_cast<std::ptrdiff_t>(ms.size() / 2), ms.end());
    return ms[ms.size() / 2];
  } catch (...) {
    return CurrentException(absl::StatusCode::kInvalidArgument, "MODEL_SHAPE", shape, kFailsOnWindow);
  }
}

absl::StatusOr<std::vector<at::Tensor>> Network::Forward(const at::Tensor& input) const {
  if (input.device() != state_->device.device()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "INPUT_DEVICE", input.device().str(),
                       "the input is not on the network's device");
  }
  try {
    state_->device.Use();
    return state_->RunWithinMemory(input.to(at::kFloat).contiguous(), absl::StatusCode::kInternal,
                                   "NETWORK_FAILED", "the network failed on a window");
  } catch (...) {
    return CurrentException(absl::StatusCode::kInternal, "NETWORK_FAILED", ShapeText(input.sizes()),
                            "the network failed on a window");
  }
}

std::uint64_t Network::weight_bytes() const {
  std::uint64_t bytes = 0;
  for (const LoadedModule& module : state_->modules) bytes += module.weight_bytes;
  return bytes;
}

std::vector<WeightFormats> Network::weight_formats() const {
  std::vector<WeightFormats> formats;
  for (const LoadedModule& module : state_->modules) formats.push_back(module.formats);
  return formats;
}

std::span<const std::int64_t> Network::window_shape() const { return state_->window_shape; }
const ComputeDevice& Network::device() const { return state_->device; }
bool Network::branches_on_values() const {
  return std::any_of(state_->modules.begin(), state_->modules.end(),
                     [](const LoadedModule& module) { return module.branches_on_values; });
}

}  // namespace tomoserve::engine
