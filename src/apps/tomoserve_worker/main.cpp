// tomoserve-worker: runs models on one device for the front, which holds the other end of descriptor 3. Exit
// codes: 0 the front is gone or SIGTERM, 1 failed, 2 usage, 3 the device cannot be used, 4 the device is held
// by another worker, 5 the device does not work any more.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "apps/tomoserve_worker/device_lock.h"
#include "apps/tomoserve_worker/front.h"
#include "apps/tomoserve_worker/worker.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/engine/cuda.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/sandbox.h"
#include "tomoserve/ipc/worker_exit.h"

namespace tomoserve::worker {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitNoDevice = 3;
constexpr int kExitDeviceBusy = 4;
constexpr timespec kHeartbeat{1, 0};

struct Arguments {
  std::string device = "cpu";
  std::uint32_t lanes = 1;
  std::uint32_t threads = 0;           // 0: as many as lanes
  std::vector<std::uint32_t> buckets;  // empty: the device's default
  std::uint64_t host_bytes = 0;        // 0: what the machine has
  std::string lock_dir;
  std::string lock;
};

int Fail(const absl::Status& status, int exit_code) {
  base::Log(base::LogLevel::kError, "worker_failed",
            {{"reason", base::ReasonOf(status)}, {"value", base::ValueOf(status)}});
  return exit_code;
}

// Blocks SIGTERM and SIGINT in this thread and all that it starts: the heartbeat thread waits for them.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// Sends a heartbeat every second, also while all lanes compute; a stop signal ends the worker.
void Beat(const std::stop_token& stop, const sigset_t& signals, Front& front, const Worker& worker) {
  while (!stop.stop_requested()) {
    ipc::v1::WorkerReply reply;
    reply.mutable_heartbeat()->set_windows(worker.windows_done());
    reply.mutable_heartbeat()->set_device_memory_used_bytes(worker.device_memory_used_bytes());
    const executor::Counters counters = worker.counters();
    reply.mutable_heartbeat()->set_batch_windows(counters.windows);
    reply.mutable_heartbeat()->set_batch_slots(counters.slots);
    reply.mutable_heartbeat()->set_busy_seconds(
        std::accumulate(counters.lane_busy_ms.begin(), counters.lane_busy_ms.end(), 0.0) / 1000);
    front.Send(reply).IgnoreError();  // logged; the receiving loop ends
    if (sigtimedwait(&signals, nullptr, &kHeartbeat) > 0) {
      front.Shutdown();
      return;
    }
  }
}

ipc::v1::WorkerReply HelloOf(const engine::RuntimeInfo& info, std::uint64_t memory_bytes,
                             std::uint32_t lanes) {
  ipc::v1::WorkerReply reply;
  reply.mutable_hello()->set_device_kind(info.device_kind);
  reply.mutable_hello()->set_torch_version(info.torch_version);
  reply.mutable_hello()->set_driver_version(info.driver_version);
  reply.mutable_hello()->set_cudnn_version(info.cudnn_version);
  reply.mutable_hello()->set_lanes(lanes);
  reply.mutable_hello()->set_memory_bytes(memory_bytes);
  return reply;
}

// Tells the front why there will be no hello. The last record.
int Unusable(Front& front, const absl::Status& status) {
  ipc::v1::WorkerReply reply;
  *reply.mutable_unusable() = RefusalOf(status);
  front.Send(reply).IgnoreError();  // logged
  base::Log(base::LogLevel::kError, "device_unusable",
            {{"reason", base::ReasonOf(status)},
             {"value", base::ValueOf(status)},
             {"text", base::ToStd(status.message())}});
  return base::ReasonOf(status) == "DEVICE_BUSY" ? kExitDeviceBusy : kExitNoDevice;
}

// The device, locked and ready. The CUDA half of LibTorch is loaded before anything asks whether it is there.
absl::StatusOr<engine::CudaRuntime> OpenDevice(const Arguments& arguments, std::vector<DeviceLock>& locks) {
  const std::optional<int> cuda = base::CudaIndex(arguments.device);
  const auto lock = [&](std::string_view name) -> absl::Status {
    TS_ASSIGN_OR_RETURN(DeviceLock held, DeviceLock::Acquire(arguments.lock_dir, name));
    locks.push_back(std::move(held));
    return absl::OkStatus();
  };
  if (!arguments.lock.empty()) TS_RETURN_IF_ERROR(lock(arguments.lock));
  if (!cuda) return engine::CudaRuntime{.info = engine::InitialiseTorch(), .device = {}};
  engine::SetCudaEnvironment();
  TS_ASSIGN_OR_RETURN(const cuda::Module* module, engine::OpenCudaModule(engine::CudaModulePath()));
  TS_ASSIGN_OR_RETURN(const cuda::DeviceFacts facts, engine::FindCudaDevice(*module, *cuda));
  // By its own name: its number depends on what else this container or process may see.
  if (!arguments.lock_dir.empty()) TS_RETURN_IF_ERROR(lock("GPU-" + std::string(facts.uuid)));
  return engine::InitialiseCuda(*module, facts, *cuda);
}

// OpenDevice, with every error as one of the device: where it cannot be set up it cannot be used, whatever
// the reason. Errors: DEVICE_UNAVAILABLE (value: the code of what was no error of the device),
// DEVICE_UNSUPPORTED, DEVICE_BUSY.
absl::StatusOr<engine::CudaRuntime> SetUpDevice(const Arguments& arguments, std::vector<DeviceLock>& locks) {
  const auto unavailable = [](std::string_view value, std::string_view text) {
    return base::Error(absl::StatusCode::kUnavailable, "DEVICE_UNAVAILABLE", value, text);
  };
  try {
    absl::StatusOr<engine::CudaRuntime> runtime = OpenDevice(arguments, locks);
    if (runtime.ok() || base::ReasonOf(runtime.status()).rfind("DEVICE_", 0) == 0) return runtime;
    return unavailable(base::ReasonOf(runtime.status()), base::ToStd(runtime.status().message()));
  } catch (const std::exception& error) {
    return unavailable("EXCEPTION", error.what());
  }
}

int RunWorker(const Arguments& arguments) {
  if (fcntl(ipc::kChildSocketFd, F_GETFD) < 0) {
    return Fail(
        base::Error(absl::StatusCode::kFailedPrecondition, "NO_FRONT", "", "descriptor 3 is no socket"),
        kExitUsage);
  }
  const sigset_t signals = BlockStopSignals();
  Front front{ipc::RecordSocket(base::UniqueFd(ipc::kChildSocketFd))};
  std::vector<DeviceLock> locks;  // until the end of the process
  // Before the sandbox, which hides what says so.
  const std::uint64_t machine_bytes = base::MemoryLimitBytes();
  const std::uint64_t host_bytes =
      arguments.host_bytes > 0 ? std::min(arguments.host_bytes, machine_bytes) : machine_bytes;
  const absl::StatusOr<engine::CudaRuntime> runtime = SetUpDevice(arguments, locks);
  if (!runtime.ok()) return Unusable(front, runtime.status());
  const auto confined = runtime->device.is_cuda() ? ipc::WorkerDevice::kGpu : ipc::WorkerDevice::kCpu;
  if (const absl::Status entered = ipc::EnterWorkerSandbox(confined); !entered.ok()) {
    return Fail(entered, kExitFailed);
  }
  if (runtime->device.is_cuda()) {
    ipc::ExitOnDeviceLoss([device = runtime->device] { return device.Works(); });
  }
  const std::uint32_t threads = arguments.threads > 0 ? arguments.threads : arguments.lanes;
  const std::uint64_t memory_bytes = runtime->device.is_cuda() ? runtime->info.memory_bytes : host_bytes;
  BucketChoice buckets = DefaultBuckets(runtime->device, memory_bytes);
  if (!arguments.buckets.empty()) buckets = {.sizes = arguments.buckets};
  Worker worker(front, {.device = memory_bytes, .host = host_bytes}, runtime->device, arguments.lanes,
                threads, std::move(buckets));
  if (const absl::Status sent = front.Send(HelloOf(runtime->info, memory_bytes, arguments.lanes));
      !sent.ok()) {
    return Fail(sent, kExitFailed);
  }
  std::jthread heartbeat([&](const std::stop_token& stop) { Beat(stop, signals, front, worker); });
  const absl::Status ended = worker.Serve();
  const bool ordinary = base::ReasonOf(ended) == "PEER_GONE";
  const executor::Counters counters = worker.counters();
  base::Log(ordinary ? base::LogLevel::kInfo : base::LogLevel::kError, "worker_ends",
            {{"reason", base::ReasonOf(ended)},
             {"batches", static_cast<std::int64_t>(counters.batches)},
             {"windows", static_cast<std::int64_t>(counters.windows)},
             {"slots", static_cast<std::int64_t>(counters.slots)},
             {"retried_batches", static_cast<std::int64_t>(counters.retried_batches)}});
  // A window in flight may take long and nobody waits for it. Nothing here needs to be undone.
  std::_Exit(ordinary ? EXIT_SUCCESS : kExitFailed);
}

}  // namespace
}  // namespace tomoserve::worker

int main(int argc, char** argv) {
  tomoserve::worker::Arguments arguments;
  CLI::App app{"Runs models on one device. Started by tomoserve, not by hand."};
  app.add_option("--device", arguments.device, "cpu or cuda:N")
      ->check(CLI::Validator(
          [](const std::string& name) {
            const bool known = name == "cpu" || tomoserve::base::CudaIndex(name).has_value();
            return known ? std::string() : "not cpu or cuda:N";
          },
          "cpu|cuda:N"));
  app.add_option("--lanes", arguments.lanes, "windows computed at a time")->check(CLI::Range(1, 256));
  app.add_option("--threads", arguments.threads, "that prepare and finish a run; 0: one for each lane")
      ->check(CLI::Range(0, 256));
  app.add_option("--buckets", arguments.buckets,
                 "sizes of batches to try, ascending from 1, as 1,2,4; default: 1 on a CPU, up to 8 on a GPU")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  app.add_option("--host-bytes", arguments.host_bytes,
                 "memory of the host that models and runs may use; 0: all that this process may use");
  auto* lock_dir = app.add_option("--lock-dir", arguments.lock_dir, "folder of the host's device locks");
  app.add_option("--lock", arguments.lock, "name of the lock to hold")->needs(lock_dir);
  try {
    app.parse(argc, argv);
    const std::vector<std::uint32_t>& buckets = arguments.buckets;
    const bool ascending =
        std::adjacent_find(buckets.begin(), buckets.end(), std::greater_equal<>()) == buckets.end();
    if (!buckets.empty() && (buckets.front() != 1 || !ascending)) {
      throw CLI::ValidationError("--buckets", "sizes ascend from 1, as 1,2,4");
    }
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : tomoserve::worker::kExitUsage;
  }
  try {
    return tomoserve::worker::RunWorker(arguments);
  } catch (const std::exception& error) {
    tomoserve::base::Log(tomoserve::base::LogLevel::kError, "worker_failed", {{"reason", "EXCEPTION"}});
    return tomoserve::worker::kExitFailed;
  }
}
