// One worker process: started, listened to, watched, started again.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/v1/worker.pb.h"

namespace tomoserve::dispatch {

// Why a worker ended.
enum class DeathCause {
  kItself,      // exited, crashed, or was killed by somebody else
  kWatchdog,    // killed by us: no sign of life, or none of progress, in time
  kProtocol,    // killed by us: a record that no worker of ours sends
  kAsked,       // killed by us for a reason that the caller knows
  kNoStart,     // could not be started
  kDeviceLost,  // exited because its device does not work any more
};

struct WorkerDeath {
  DeathCause cause = DeathCause::kItself;
  bool said_hello = false;
  int exit_code = 0;
  int signal = 0;
  bool oom_killer = false;  // the kernel's OOM killer was active while the worker lived
};

// Whether a run that was in flight, or a model that was being loaded, may be the culprit: a kill from outside
// says nothing about it.
bool IsBlamed(const WorkerDeath& death);

// The cause's short name: one of WorkerDeathCauses().
std::string CauseOf(const WorkerDeath& death);

// Number of OOM kills that the kernel counted in our cgroup, or on the machine where there is none.
std::uint64_t OomKills();

// What a worker's thread tells its owner. `life` counts the processes of one handle.
struct WorkerEvent {
  std::uint64_t life = 0;
  // Exactly one:
  const ipc::v1::WorkerReply* reply = nullptr;
  const WorkerDeath* death = nullptr;
};

struct WorkerOptions {
  std::vector<std::string> arguments;    // [0]: the program
  std::vector<std::string> environment;  // "NAME=value", besides what every child gets
  Patience patience;
};

// How long a worker may compute without any sign but heartbeats. Zero: it has nothing to compute.
struct StallBounds {
  std::chrono::milliseconds window{0};  // between two windows of a run
  std::chrono::milliseconds stage{0};   // before the first and after the last window, and while loading
};

// What the processes of one handle computed, one after the other.
struct ComputedBatches {
  std::uint64_t windows = 0;
  std::uint64_t slots = 0;  // places that the batches had for windows
  double busy_seconds = 0;  // of all lanes together
};

// Owns one process at a time and a thread that reads from it. Thread-safe.
class WorkerHandle {
 public:
  // `events` is called on the handle's thread, in order; what it points to is valid during the call.
  WorkerHandle(WorkerOptions options, std::function<void(const WorkerEvent&)> events);
  // Ends the process (SIGKILL after a moment) and joins.
  ~WorkerHandle();

  // Sends to the process of that life. Errors: PEER_GONE (it is dead; the event follows), RECORD_TOO_LARGE.
  absl::Status Send(std::uint64_t life, const ipc::v1::WorkerRequest& request, std::span<const int> fds = {});
  // Sets the bounds for what the process of that life computes from now on; before it is told to, so that
  // its answers count. Never blocks.
  void Watch(std::uint64_t life, const StallBounds& bounds);
  // Kills the process of that life; its death has this cause.
  void Kill(std::uint64_t life, DeathCause cause);
  // Begins the end without waiting for it.
  void Stop();
  // Of the process that lives now; 0: none. Never blocks.
  pid_t pid() const { return pid_; }
  // Of the device, as the process that lives now says; 0: none lives, or it said nothing. Never blocks.
  std::uint64_t device_memory_used_bytes() const { return device_memory_used_bytes_; }
  // Since the start, as far as heartbeats said. Never blocks for long.
  ComputedBatches computed() const {
    const std::lock_guard lock(computed_mutex_);
    return computed_;
  }

 private:
  void Live();
  // One process from its start to its end.
  WorkerDeath LiveOnce(std::uint64_t life);
  DeathCause Listen(std::uint64_t life, bool& said_hello);
  // What the worker has shown of its work. Begins anew with each setting of the bounds.
  class Motion;
  void Update(Motion& motion, double now_ms);
  // Adds what the process has computed since the last heartbeat, which said `before`; numbers that cannot be
  // are left out.
  void Count(const ipc::v1::Heartbeat& heartbeat, ComputedBatches& before);
  // Whether the bound of what is computed now is over.
  bool IsStalled(const Motion& motion, double now_ms);

  const WorkerOptions options_;
  const std::function<void(const WorkerEvent&)> events_;

  std::mutex mutex_;  // guards child_, life_ and killed_ against the thread's exchange of the process
  ipc::Child child_;
  std::uint64_t life_ = 0;
  std::optional<DeathCause> killed_;
  // Guards the next three. Its own: the thread looks at them while somebody is held up in Send.
  std::mutex watch_mutex_;
  std::uint64_t watched_life_ = 0;
  StallBounds bounds_;
  std::uint64_t watch_ = 0;  // counts the settings of bounds_
  mutable std::mutex computed_mutex_;
  ComputedBatches computed_;  // guarded by computed_mutex_
  std::atomic<pid_t> pid_{0};
  std::atomic<std::uint64_t> device_memory_used_bytes_{0};
  std::atomic<bool> stopping_{false};
  std::condition_variable stop_;
  std::thread thread_;
};

}  // namespace tomoserve::dispatch
