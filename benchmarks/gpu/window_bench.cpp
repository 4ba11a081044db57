// tomoserve-window-bench: times passes of a repository's networks through the engine, as the worker runs
// them.
//
//   tomoserve-window-bench [--device cpu|cuda:N]
//
// Reads one JSON request a line and answers each with one line; where the device is not to be had, with one
// error before the first request.
//   {"load": {"models": FOLDER, "name": NAME}}
//     -> {"load_ms", "warm_up_ms", "warm_pass_ms", "weight_bytes", "window": [x, y, z]}
//   {"run": {"batch": N, "passes": N}}
//     -> {"ms": [...], "peak_bytes", "sample": [...]}
// Each answer may be {"error": {"code", "value", "text"}} instead. A network that is loaded takes the place
// of the one before. Input: uniform noise of seed 1, on the device before the clock starts; a pass ends when
// the device is idle. On a GPU a run begins with a pass that is not counted and ends by giving cached memory
// back. `peak_bytes`: highest during the passes, on a GPU of the caching allocator's allocations (weights
// included), on the CPU of the process's resident memory. `sample`: 256 values of the first window's output,
// evenly spaced.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/rand.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Device.h>
#include <c10/core/InferenceMode.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/cuda.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/repository.h"

namespace tomoserve::bench {
namespace {

using nlohmann::json;

constexpr std::uint64_t kSeed = 1;
constexpr std::int64_t kSamples = 256;

// Peak counters start anew.
void ResetPeak(const c10::Device& device) {
  if (device.is_cpu()) {
    std::ofstream("/proc/self/clear_refs") << "5";
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  }
}

std::int64_t PeakBytes(const c10::Device& device) {
  if (!device.is_cpu()) {
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.allocated_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

json ErrorOf(const absl::Status& status) {
  return {{"error",
           {{"code", base::ReasonOf(status)},
            {"value", base::ValueOf(status)},
            {"text", std::string(status.message())}}}};
}

std::vector<float> Sample(const at::Tensor& output) {
  const at::Tensor first = output.select(0, 0).reshape({-1}).to(at::kCPU, at::kFloat).contiguous();
  std::vector<float> values;
  for (std::int64_t i = 0; i < kSamples; ++i) {
    values.push_back(first.const_data_ptr<float>()[first.numel() * i / kSamples]);
  }
  return values;
}

// "cpu", or "cuda:N" with the module beside this program.
absl::StatusOr<engine::ComputeDevice> OpenDevice(const std::string& name) {
  if (name == "cpu") {
    engine::InitialiseTorch();
    return engine::ComputeDevice();
  }
  int index = 0;
  if (!name.starts_with("cuda:") || !absl::SimpleAtoi(name.substr(5), &index) || index < 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "DEVICE_UNAVAILABLE", name, "cpu or cuda:N");
  }
  TS_ASSIGN_OR_RETURN(const cuda::Module* const module, engine::OpenCudaModule(engine::CudaModulePath()));
  TS_ASSIGN_OR_RETURN(const cuda::DeviceFacts facts, engine::FindCudaDevice(*module, index));
  TS_ASSIGN_OR_RETURN(engine::CudaRuntime runtime, engine::InitialiseCuda(*module, facts, index));
  return runtime.device;
}

class Bench {
 public:
  explicit Bench(engine::ComputeDevice device) : device_(std::move(device)) {}

  absl::StatusOr<json> Load(const json& request) {
    device_.Use();
    network_.reset();
    device_.FreeCache();
    TS_ASSIGN_OR_RETURN(const auto repository,
                        models::Repository::Scan({request.at("models").get<std::string>()}));
    TS_ASSIGN_OR_RETURN(const models::Model* const model,
                        repository.Find(request.at("name").get<std::string>(), ""));
    TS_ASSIGN_OR_RETURN(const auto files, models::Repository::OpenFiles(*model));
    std::vector<int> fds;
    // Those of a known answer come after them.
    const std::size_t count = models::NetworkFiles(model->recipe).size();
    for (std::size_t n = 0; n < count; ++n) fds.push_back(files[n].get());
    const std::span<const std::string> digests = std::span(model->file_sha256).first(count);
    const double begin_ms = base::MonotonicMs();
    TS_ASSIGN_OR_RETURN(network_, engine::Network::Load(fds, model->recipe, digests, device_));
    const double loaded_ms = base::MonotonicMs();
    TS_ASSIGN_OR_RETURN(const double pass_ms, network_->WarmUp());
    const double warm_ms = base::MonotonicMs();
    window_.assign(model->recipe.windows().size().begin(), model->recipe.windows().size().end());
    channels_ = model->recipe.network().input_channels();
    return json{{"load_ms", loaded_ms - begin_ms},
                {"warm_up_ms", warm_ms - loaded_ms},
                {"warm_pass_ms", pass_ms},
                {"weight_bytes", network_->weight_bytes()},
                {"window", window_}};
  }

  absl::StatusOr<json> Run(const json& request) const {
    if (network_ == nullptr) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "MODEL_NOT_LOADED", "",
                         "load a network first");
    }
    device_.Use();
    const c10::InferenceMode inference;
    std::vector<std::int64_t> shape = {request.at("batch").get<std::int64_t>(), channels_};
    shape.insert(shape.end(), window_.begin(), window_.end());
    const at::Tensor input = at::rand(shape, at::detail::createCPUGenerator(kSeed)).to(device_.device());
    if (device_.is_cuda()) TS_RETURN_IF_ERROR(network_->Forward(input).status());
    device_.Synchronise();
    ResetPeak(device_.device());
    std::vector<double> ms;
    std::vector<float> sample;
    for (int pass = 0; pass < request.at("passes").get<int>(); ++pass) {
      const double begin_ms = base::MonotonicMs();
      TS_ASSIGN_OR_RETURN(const std::vector<at::Tensor> outputs, network_->Forward(input));
      device_.Synchronise();
      ms.push_back(base::MonotonicMs() - begin_ms);
      if (pass == 0) sample = Sample(outputs.front());
    }
    json answer{{"ms", ms}, {"peak_bytes", PeakBytes(device_.device())}, {"sample", sample}};
    device_.FreeCache();
    return answer;
  }

 private:
  const engine::ComputeDevice device_;
  std::shared_ptr<engine::Network> network_;
  std::vector<std::int64_t> window_;
  std::int64_t channels_ = 0;
};

json Answer(Bench& bench, const std::string& line) {
  try {
    const json request = json::parse(line);
    auto answer = request.contains("load") ? bench.Load(request.at("load")) : bench.Run(request.at("run"));
    return answer.ok() ? *std::move(answer) : ErrorOf(answer.status());
  } catch (const std::exception& error) {
    return {{"error", {{"code", "REQUEST_FAILED"}, {"value", ""}, {"text", error.what()}}}};
  }
}

int Main(int argc, char** argv) {
  CLI::App app("Times passes of networks; requests and answers are lines of JSON");
  std::string device = "cpu";
  app.add_option("--device", device, "cpu or cuda:N");
  CLI11_PARSE(app, argc, argv);
  engine::SetCudaEnvironment();
  auto opened = OpenDevice(device);
  if (!opened.ok()) {
    std::cerr << "tomoserve-window-bench: " << opened.status().message() << '\n';
    std::cout << ErrorOf(opened.status()).dump() << std::endl;
    return 1;
  }
  Bench bench(*std::move(opened));
  for (std::string line; std::getline(std::cin, line);) std::cout << Answer(bench, line).dump() << std::endl;
  return 0;
}

}  // namespace
}  // namespace tomoserve::bench

int main(int argc, char** argv) { return tomoserve::bench::Main(argc, argv); }
