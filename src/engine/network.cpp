#include "tomoserve/engine/network.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/div.h>
#include <c10/core/InferenceMode.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <sys/stat.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "engine/archive_scan.h"
#include "engine/failure.h"
#include "engine/graph_scan.h"
#include "engine/half_precision.h"
#include "engine/network_output.h"
#include "engine/output_bits.h"
#include "engine/test_pattern.h"
#include "engine/window_shape.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

constexpr std::int64_t kMaxFileBytes = std::int64_t{16} << 30;
constexpr std::size_t kTimedPasses = 3;
constexpr double kTimedMs = 1500;
// A first pass this long is its own measurement: what is paid once does not show in it.
constexpr double kSlowPassMs = 10'000;

// At warm-up: it is the recipe's fault, or its network's.
constexpr char kFailsOnWindow[] =
    "windows.size, network.axes or network.input_channels: the network fails on a window of this shape";

absl::Status Unreadable(std::string_view file, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_UNREADABLE", file, text);
}

// A file's bytes in memory of ours: what was hashed is what is loaded, whatever happens to the file
// meanwhile.
class FileInMemory final : public caffe2::serialize::ReadAdapterInterface {
 public:
  static absl::StatusOr<std::shared_ptr<FileInMemory>> Read(int fd, std::string_view name) {
    struct stat status {};
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0 ||
        status.st_size > kMaxFileBytes) {
      return Unreadable(name, "not a regular file of a plausible size");
    }
    auto file = std::shared_ptr<FileInMemory>(new FileInMemory(static_cast<std::size_t>(status.st_size)));
    for (std::size_t done = 0; done < file->size_;) {
      const ssize_t got = pread(fd, file->bytes_.get() + done, file->size_ - done, static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return Unreadable(name, "the file ended or could not be read");
      done += static_cast<std::size_t>(got);
    }
    return file;
  }

  std::size_t size() const override { return size_; }
  std::size_t read(std::uint64_t position, void* buffer, std::size_t count, const char*) const override {
    if (position >= size_) return 0;
    count = std::min(count, size_ - static_cast<std::size_t>(position));
    std::memcpy(buffer, bytes_.get() + position, count);
    return count;
  }
  std::string HexDigest() const {
    base::Sha256 digest;
    digest.Update(std::span<const std::byte>(bytes_.get(), size_));
    return digest.HexDigest();
  }

 private:
  explicit FileInMemory(std::size_t size)
      : size_(size), bytes_(std::make_unique_for_overwrite<std::byte[]>(size)) {}
  const std::size_t size_;
  const std::unique_ptr<std::byte[]> bytes_;
};

std::uint64_t WeightBytes(const torch::jit::Module& module) {
  std::uint64_t bytes = 0;
  for (const at::Tensor& tensor : module.parameters(true)) bytes += tensor.nbytes();
  for (const at::Tensor& tensor : module.buffers(true)) bytes += tensor.nbytes();
  return bytes;
}

// A module that may not be frozen (it changes its own attributes) stays as it is.
torch::jit::Module Frozen(const torch::jit::Module& module) {
  try {
    return torch::jit::freeze(module, std::nullopt, /*optimize_numerics=*/false);
  } catch (const std::exception&) {
    return module;
  }
}

absl::StatusOr<torch::jit::Module> LoadModule(int fd, std::string_view name, std::string_view sha256,
                                              c10::Device device, std::uint64_t& weight_bytes,
                                              bool& branches) {
  try {
    TS_ASSIGN_OR_RETURN(const std::shared_ptr<FileInMemory> file, FileInMemory::Read(fd, name));
    if (file->HexDigest() != sha256) {
      return base::Error(absl::StatusCode::kInvalidArgument, "MODEL_DIGEST_MISMATCH", name,
                         "the file is not the one that was announced");
    }
    TS_RETURN_IF_ERROR(ScanArchive(file));
    torch::jit::Module module = torch::jit::load(file, device, /*load_debug_files=*/false);
    TS_RETURN_IF_ERROR(ScanGraphs(module));
    branches = branches || BranchesOnValues(module);
    if (!module.find_method("forward")) return Unreadable(name, "no method forward");
    module.eval();
    weight_bytes += WeightBytes(module);
    return Frozen(module);
  } catch (...) {
    return CurrentException(absl::StatusCode::kInvalidArgument, "MODEL_UNREADABLE", name,
                            "no TorchScript archive that this version reads");
  }
}

struct Pass {
  double ms = 0;
  std::string bits;  // digest of the outputs
};

}  // namespace

struct Network::State {
  v1::Recipe recipe;
  ComputeDevice device;
  std::vector<std::int64_t> window_shape;
  std::vector<torch::jit::Module> modules;
  std::uint64_t weight_bytes = 0;
  bool branches_on_values = false;
  std::mutex mutex;
  std::string warm_up_bits;  // of the first warm-up's output; guarded by mutex

  // Forward with the exceptions let through.
  absl::StatusOr<std::vector<at::Tensor>> Run(const at::Tensor& input) const {
    const c10::InferenceMode inference;
    const torch::jit::GraphOptimizerEnabledGuard no_recompilation(false);
    std::optional<HalfPrecision> half;
    if (device.is_cuda() && recipe.network().precision() == v1::PRECISION_FLOAT16) half.emplace(at::kCUDA);
    std::vector<at::Tensor> sums;
    for (const torch::jit::Module& module : modules) {
      // A module may write into its input, and its output may be a part of itself.
      TS_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs,
                          CheckedOutputs(module.get_method("forward")({input.clone()}), input, recipe));
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
    TS_ASSIGN_OR_RETURN(torch::jit::Module module,
                        LoadModule(fds[i], recipe.network().files(static_cast<int>(i)), file_sha256[i],
                                   device.device(), state->weight_bytes, state->branches_on_values));
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

std::uint64_t Network::weight_bytes() const { return state_->weight_bytes; }
std::span<const std::int64_t> Network::window_shape() const { return state_->window_shape; }
const ComputeDevice& Network::device() const { return state_->device; }
bool Network::branches_on_values() const { return state_->branches_on_values; }

}  // namespace tomoserve::engine
