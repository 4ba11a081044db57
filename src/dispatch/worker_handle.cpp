#include "dispatch/worker_handle.h"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <utility>

#include "tomoserve/base/cgroup.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/worker_exit.h"

namespace tomoserve::dispatch {
namespace {

// How often the thread looks up from the socket.
constexpr std::chrono::milliseconds kLook{200};
// How long a process that closed its socket may take to exit.
constexpr std::chrono::milliseconds kExit{2000};
// More memory than any device has is no number to be shown.
constexpr std::uint64_t kMostDeviceBytes = std::uint64_t{1} << 50;
// Nor are more places for windows, or seconds, than a worker sees in its life.
constexpr std::uint64_t kMostSlots = std::uint64_t{1} << 50;
constexpr double kMostBusySeconds = 1e12;

std::uint64_t OomKillsOfTheMachine() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace

std::uint64_t OomKills() {
  const auto kills = base::CgroupOomKills();
  return kills ? *kills : OomKillsOfTheMachine();
}

bool IsBlamed(const WorkerDeath& death) {
  switch (death.cause) {
    case DeathCause::kWatchdog:
    case DeathCause::kProtocol:
    case DeathCause::kDeviceLost:
      return true;
    case DeathCause::kAsked:
    case DeathCause::kNoStart:
      return false;
    case DeathCause::kItself:
      break;
  }
  // A worker that is told to stop by SIGTERM exits with 0.
  if (death.signal == 0) return death.exit_code != 0;
  return (death.signal != SIGKILL && death.signal != SIGTERM) || death.oom_killer;
}

// What a worker has shown of its work, besides being alive. Confined to the handle's thread.
class WorkerHandle::Motion {
 public:
  // Something else is computed from now on.
  void Restart(std::uint64_t watch, double now_ms) {
    watch_ = watch;
    moved_ms_ = now_ms;
    windows_before_ = windows_;
    reported_ = 0;
    total_ = 0;
  }
  void See(const ipc::v1::WorkerReply& reply, double now_ms) {
    if (reply.reply_case() == ipc::v1::WorkerReply::kHeartbeat) {
      if (reply.heartbeat().windows() == windows_) return;
      windows_ = reply.heartbeat().windows();
    } else if (reply.reply_case() == ipc::v1::WorkerReply::kProgress) {
      reported_ = reply.progress().windows_done();
      total_ = reply.progress().windows_total();
    }
    moved_ms_ = now_ms;
  }
  std::uint64_t watch() const { return watch_; }
  double moved_ms() const { return moved_ms_; }
  // Between a run's first and last window. Progress is not reported for each window, heartbeats count all.
  bool in_windows() const {
    const std::uint64_t counted = windows_ > windows_before_ ? windows_ - windows_before_ : 0;
    const std::uint64_t done = std::max(reported_, counted);
    return done > 0 && done < total_;
  }

 private:
  std::uint64_t watch_ = 0;
  double moved_ms_ = 0;
  std::uint64_t windows_ = 0;
  std::uint64_t windows_before_ = 0;
  std::uint64_t reported_ = 0;
  std::uint64_t total_ = 0;
};

WorkerHandle::WorkerHandle(WorkerOptions options, std::function<void(const WorkerEvent&)> events)
    : options_(std::move(options)), events_(std::move(events)), thread_([this] { Live(); }) {}

WorkerHandle::~WorkerHandle() {
  Stop();
  thread_.join();
}

void WorkerHandle::Stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  if (child_.running()) child_.socket().Shutdown();
  stop_.notify_all();
}

absl::Status WorkerHandle::Send(std::uint64_t life, const ipc::v1::WorkerRequest& request,
                                std::span<const int> fds) {
  const std::lock_guard lock(mutex_);
  if (life != life_ || !child_.running()) {
    return base::Error(absl::StatusCode::kUnavailable, "PEER_GONE", "", "the worker is gone");
  }
  return child_.socket().SendLarge(request, fds);
}

void WorkerHandle::Watch(std::uint64_t life, const StallBounds& bounds) {
  const std::lock_guard lock(watch_mutex_);
  if (life != watched_life_) return;
  bounds_ = bounds;
  ++watch_;
}

void WorkerHandle::Update(Motion& motion, double now_ms) {
  const std::lock_guard lock(watch_mutex_);
  if (motion.watch() != watch_) motion.Restart(watch_, now_ms);
}

bool WorkerHandle::IsStalled(const Motion& motion, double now_ms) {
  const std::lock_guard lock(watch_mutex_);
  if (motion.watch() != watch_) return false;  // set since the last look
  const std::chrono::milliseconds bound = motion.in_windows() ? bounds_.window : bounds_.stage;
  return bound.count() > 0 && now_ms - motion.moved_ms() > static_cast<double>(bound.count());
}

void WorkerHandle::Count(const ipc::v1::Heartbeat& heartbeat, ComputedBatches& before) {
  const ComputedBatches now{.windows = heartbeat.batch_windows(),
                            .slots = heartbeat.batch_slots(),
                            .busy_seconds = heartbeat.busy_seconds()};
  const bool is_true = now.windows <= now.slots && now.slots <= kMostSlots && now.windows >= before.windows &&
                       now.slots >= before.slots && now.busy_seconds >= before.busy_seconds &&
                       now.busy_seconds <= kMostBusySeconds;
  if (!is_true) return;
  {
    const std::lock_guard lock(computed_mutex_);
    computed_.windows += now.windows - before.windows;
    computed_.slots += now.slots - before.slots;
    computed_.busy_seconds += now.busy_seconds - before.busy_seconds;
  }
  before = now;
}

void WorkerHandle::Kill(std::uint64_t life, DeathCause cause) {
  const std::lock_guard lock(mutex_);
  if (life != life_ || !child_.running()) return;
  killed_ = cause;
  child_.Kill(SIGKILL);
}

void WorkerHandle::Live() {
  std::chrono::milliseconds delay = options_.patience.first_restart;
  for (std::uint64_t life = 1; !stopping_; ++life) {
    const WorkerDeath death = LiveOnce(life);
    if (stopping_) return;
    WorkerEvent event;
    event.life = life;
    event.death = &death;
    events_(event);
    // A worker that came up died of what it was given, and that is struck out elsewhere.
    if (death.said_hello) delay = options_.patience.first_restart;
    std::unique_lock lock(mutex_);
    stop_.wait_for(lock, delay, [this] { return stopping_.load(); });
    delay = std::min(2 * delay, options_.patience.longest_restart);
  }
}

WorkerDeath WorkerHandle::LiveOnce(std::uint64_t life) {
  WorkerDeath death;
  const std::uint64_t oom_kills = OomKills();
  auto child = ipc::Child::Spawn(options_.arguments, options_.environment);
  if (!child.ok()) {
    base::Log(base::LogLevel::kError, "worker_start_failed", {{"reason", base::ReasonOf(child.status())}});
    death.cause = DeathCause::kNoStart;
    return death;
  }
  {
    const std::lock_guard lock(watch_mutex_);
    watched_life_ = life;
    bounds_ = {};
    ++watch_;
  }
  {
    const std::lock_guard lock(mutex_);
    child_ = *std::move(child);
    life_ = life;
    pid_ = child_.pid();
    killed_.reset();
    if (stopping_) child_.socket().Shutdown();
  }
  death.cause = Listen(life, death.said_hello);
  // Before the lock: somebody may be held up in Send by a worker that does not read.
  if (death.cause != DeathCause::kItself && !stopping_) child_.Kill(SIGKILL);
  // From here on nobody else reaches the process: its id may be taken by another one soon.
  pid_ = 0;
  device_memory_used_bytes_ = 0;
  ipc::Child gone;
  std::optional<DeathCause> killed;
  {
    const std::lock_guard lock(mutex_);
    std::swap(gone, child_);
    killed = killed_;
  }
  auto exit = gone.Wait(kExit);
  if (!exit.ok()) {
    // It closed its socket and lives on.
    if (death.cause == DeathCause::kItself) death.cause = DeathCause::kProtocol;
    gone.Kill(SIGKILL);
    exit = gone.Wait(kExit);
  }
  if (killed) death.cause = *killed;
  if (exit.ok()) {
    death.exit_code = exit->exit_code;
    death.signal = exit->signal;
  }
  if (death.cause == DeathCause::kItself && death.signal == 0 && death.exit_code == ipc::kWorkerDeviceLost) {
    death.cause = DeathCause::kDeviceLost;
  }
  death.oom_killer = OomKills() > oom_kills;
  return death;
}

DeathCause WorkerHandle::Listen(std::uint64_t life, bool& said_hello) {
  const double began_ms = base::MonotonicMs();
  double heard_ms = began_ms;
  Motion motion;
  ComputedBatches counted;
  bool said_unusable = false;
  while (!stopping_) {
    ipc::v1::WorkerReply reply;
    const absl::Status status = child_.socket().ReceiveLarge(reply, nullptr, kLook);
    const double now_ms = base::MonotonicMs();
    Update(motion, now_ms);
    if (status.ok()) {
      heard_ms = now_ms;
      const bool is_hello = reply.reply_case() == ipc::v1::WorkerReply::kHello;
      // Signs of life may come while the device is still being opened, and why it cannot be; nothing else may
      // come before the hello. Why it cannot be is the last word: a worker that goes on does not know itself
      // what it computes on.
      const bool is_heartbeat = reply.reply_case() == ipc::v1::WorkerReply::kHeartbeat;
      const bool is_refusal = reply.reply_case() == ipc::v1::WorkerReply::kUnusable;
      if (said_unusable || reply.reply_case() == ipc::v1::WorkerReply::REPLY_NOT_SET ||
          ((is_hello || is_refusal) && said_hello) ||
          (!is_hello && !said_hello && !is_heartbeat && !is_refusal)) {
        return DeathCause::kProtocol;
      }
      said_hello = said_hello || is_hello;
      said_unusable = is_refusal;
      motion.See(reply, now_ms);
      if (is_heartbeat) {
        device_memory_used_bytes_ = std::min(reply.heartbeat().device_memory_used_bytes(), kMostDeviceBytes);
        Count(reply.heartbeat(), counted);
      }
      if (!is_heartbeat) {
        WorkerEvent event;
        event.life = life;
        event.reply = &reply;
        events_(event);
      }
    } else if (base::ReasonOf(status) == "PEER_GONE") {
      return DeathCause::kItself;
    } else if (!absl::IsDeadlineExceeded(status)) {
      return DeathCause::kProtocol;
    }
    const double silent_ms = now_ms - (said_hello ? heard_ms : began_ms);
    const auto patience = said_hello ? options_.patience.heartbeat : options_.patience.hello;
    if (silent_ms > static_cast<double>(patience.count())) return DeathCause::kWatchdog;
    if (IsStalled(motion, now_ms)) {
      base::Log(base::LogLevel::kError, "worker_stalled", {{"ms", now_ms - motion.moved_ms()}});
      return DeathCause::kWatchdog;
    }
  }
  return DeathCause::kAsked;
}

}  // namespace tomoserve::dispatch
