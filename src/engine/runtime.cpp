#include "tomoserve/engine/runtime.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <sys/utsname.h>
#include <torch/csrc/jit/passes/autocast.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/print_handler.h>
#include <torch/headeronly/version.h>

#include "engine/host_blocks.h"
#include "tomoserve/base/config.h"

namespace tomoserve::engine {
namespace {

RuntimeInfo Initialise() {
  HostBlocks::Install();
  at::set_num_threads(1);
  at::set_num_interop_threads(1);
  // The profiling executor compiles anew in the first runs and for every new shape.
  torch::jit::getProfilingMode() = false;
  // Half precision is decided where operations are dispatched, as in a network that is not scripted; the
  // scripts' own pass does it a second time and knows fewer operations.
  torch::jit::setAutocastMode(false);
  torch::jit::setPrintHandler([](const std::string&) {});
  {
    const c10::InferenceMode inference;
    at::conv3d(at::ones({1, 1, 8, 8, 8}), at::ones({1, 1, 3, 3, 3}));
  }
  utsname machine{};
  uname(&machine);
  RuntimeInfo info;
  info.device_kind = "cpu " + at::get_cpu_capability() + " " + machine.machine;
  info.torch_version = TORCH_VERSION;
  info.memory_bytes = base::MemoryLimitBytes();
  return info;
}

}  // namespace

RuntimeInfo InitialiseTorch() {
  static const RuntimeInfo info = Initialise();
  return info;
}

void ReleaseHostMemory() { HostBlocks::OfProcess().Release(); }

void TrimHostMemory() { HostBlocks::OfProcess().Trim(); }

void UseOneThread() {
  thread_local const bool done = [] {
    at::set_num_threads(1);  // OpenMP keeps the number per thread
    return true;
  }();
  static_cast<void>(done);
}

}  // namespace tomoserve::engine
