// tomoserve-worker: runs models on one device for the front, which holds the other end of descriptor 3. Exit
// codes: 0 the front is gone or SIGTERM, 1 failed, 2 usage, 3 the device is not there, 4 the device is held
// by another worker.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "apps/tomoserve_worker/device_lock.h"
#include "apps/tomoserve_worker/front.h"
#include "apps/tomoserve_worker/worker.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/sandbox.h"

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
    front.Send(reply).IgnoreError();  // logged; the receiving loop ends
    if (sigtimedwait(&signals, nullptr, &kHeartbeat) > 0) {
      front.Shutdown();
      return;
    }
  }
}

ipc::v1::WorkerReply HelloOf(const engine::RuntimeInfo& info, std::uint32_t lanes) {
  ipc::v1::WorkerReply reply;
  reply.mutable_hello()->set_device_kind(info.device_kind);
  reply.mutable_hello()->set_torch_version(info.torch_version);
  reply.mutable_hello()->set_lanes(lanes);
  reply.mutable_hello()->set_memory_bytes(base::MemoryLimitBytes());
  return reply;
}

int RunWorker(const Arguments& arguments) {
  if (arguments.device != "cpu") {
    return Fail(base::Error(absl::StatusCode::kUnimplemented, "DEVICE_UNAVAILABLE", arguments.device,
                            "this build computes on the CPU only"),
                kExitNoDevice);
  }
  if (fcntl(ipc::kChildSocketFd, F_GETFD) < 0) {
    return Fail(
        base::Error(absl::StatusCode::kFailedPrecondition, "NO_FRONT", "", "descriptor 3 is no socket"),
        kExitUsage);
  }
  const sigset_t signals = BlockStopSignals();
  std::optional<DeviceLock> lock;
  if (!arguments.lock.empty()) {
    auto acquired = DeviceLock::Acquire(arguments.lock_dir, arguments.lock);
    if (!acquired.ok()) {
      const bool busy = base::ReasonOf(acquired.status()) == "DEVICE_BUSY";
      return Fail(acquired.status(), busy ? kExitDeviceBusy : kExitFailed);
    }
    lock = *std::move(acquired);
  }
  const engine::RuntimeInfo info = engine::InitialiseTorch();
  if (const absl::Status entered = ipc::EnterWorkerSandbox(); !entered.ok())
    return Fail(entered, kExitFailed);

  Front front{ipc::RecordSocket(base::UniqueFd(ipc::kChildSocketFd))};
  Worker worker(front, arguments.lanes);
  if (const absl::Status sent = front.Send(HelloOf(info, arguments.lanes)); !sent.ok()) {
    return Fail(sent, kExitFailed);
  }
  std::jthread heartbeat([&](const std::stop_token& stop) { Beat(stop, signals, front, worker); });
  const absl::Status ended = worker.Serve();
  const bool ordinary = base::ReasonOf(ended) == "PEER_GONE";
  base::Log(ordinary ? base::LogLevel::kInfo : base::LogLevel::kError, "worker_ends",
            {{"reason", base::ReasonOf(ended)}});
  // A window in flight may take long and nobody waits for it. Nothing here needs to be undone.
  std::_Exit(ordinary ? EXIT_SUCCESS : kExitFailed);
}

}  // namespace
}  // namespace tomoserve::worker

int main(int argc, char** argv) {
  tomoserve::worker::Arguments arguments;
  CLI::App app{"Runs models on one device. Started by tomoserve, not by hand."};
  app.add_option("--device", arguments.device, "cpu or cuda:N");
  app.add_option("--lanes", arguments.lanes, "windows computed at a time")->check(CLI::Range(1, 256));
  auto* lock_dir = app.add_option("--lock-dir", arguments.lock_dir, "folder of the host's device locks");
  app.add_option("--lock", arguments.lock, "name of the lock to hold")->needs(lock_dir);
  try {
    app.parse(argc, argv);
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
