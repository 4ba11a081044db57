// What the dispatcher shows of itself to whoever measures or probes it.
#include <algorithm>
#include <future>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/dispatcher_impl.h"
#include "dispatch/scheduler.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr char kSignal[] = "SIGNAL";         // it crashed, or somebody killed it
constexpr char kExit[] = "EXIT";             // it gave up by itself
constexpr char kOomKiller[] = "OOM_KILLER";  // the kernel wanted its memory
constexpr char kWatchdog[] = "WATCHDOG";     // it hung
constexpr char kProtocol[] = "PROTOCOL";     // it said what no worker says
constexpr char kAsked[] = "ASKED";           // it lied, or kept a cancelled run
constexpr char kNoStart[] = "NO_START";      // it could not be started
constexpr char kLost[] = "DEVICE_LOST";      // its device does not work any more

}  // namespace

std::vector<std::string> WorkerDeathCauses() {
  return {kSignal, kExit, kOomKiller, kWatchdog, kProtocol, kAsked, kNoStart, kLost};
}

std::string CauseOf(const WorkerDeath& death) {
  switch (death.cause) {
    case DeathCause::kWatchdog:
      return kWatchdog;
    case DeathCause::kProtocol:
      return kProtocol;
    case DeathCause::kAsked:
      return kAsked;
    case DeathCause::kNoStart:
      return kNoStart;
    case DeathCause::kDeviceLost:
      return kLost;
    case DeathCause::kItself:
      break;
  }
  if (death.signal == 0) return kExit;
  return death.oom_killer ? kOomKiller : kSignal;
}

Activity Scheduler::Observe() const {
  Activity activity;
  for (const v1::Priority priority : {v1::PRIORITY_ROUTINE, v1::PRIORITY_URGENT, v1::PRIORITY_STAT}) {
    activity.priorities[priority];
  }
  const double now_ms = base::MonotonicMs();
  for (const auto& [run_id, entry] : entries_) {
    const bool known = activity.priorities.contains(entry.stored.priority);
    PriorityActivity& priority = activity.priorities[known ? entry.stored.priority : v1::PRIORITY_ROUTINE];
    switch (entry.phase) {
      case Phase::kWaiting:
        ++activity.incomplete;
        break;
      case Phase::kReady:
      case Phase::kPreparing:
      case Phase::kPrepared:
        ++priority.waiting;
        priority.oldest_wait_ms = std::max(priority.oldest_wait_ms, now_ms - entry.ready_ms);
        break;
      case Phase::kOnDevice:
      case Phase::kFinishing:
        ++priority.in_flight;
        break;
    }
  }
  const std::vector<DeviceInfo> infos = devices_.Infos();
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    const ComputedBatches computed = devices_.ComputedOn(worker);
    activity.devices.push_back(
        {.device = infos[worker].device,
         .device_kind = infos[worker].device_kind,
         .ready = infos[worker].ready,
         .runs = devices_.RunsOn(worker),
         .is_gpu = !devices_.IsCpu(worker),
         .memory_bytes = devices_.MemoryBytesOf(worker),
         .predicted_bytes = devices_.ModelBytesOn(worker) + devices_.RunBytesOn(worker),
         .gpu_used_bytes = devices_.GpuBytesUsedOn(worker),
         .worker_pid = devices_.ProcessOf(worker),
         .batch_windows = computed.windows,
         .batch_slots = computed.slots,
         .busy_seconds = computed.busy_seconds});
  }
  return activity;
}

std::string DispatcherImpl::NotReady() {
  if (draining_) return "DRAINING";
  if (helpers_->zygote_pid() <= 0) return "HELPER_UNAVAILABLE";
  if (devices_.ready()) return "";
  if (devices_.TooManyLost()) return kLost;
  const std::vector<DeviceInfo> infos = devices_.Infos();
  // Enough are left beside the lost ones: it waits for one of those.
  const bool gone = std::any_of(infos.begin(), infos.end(), [](const DeviceInfo& info) {
    return !info.ready && info.unusable.code() != kLost &&
           (info.restarts > 0 || !info.unusable.code().empty());
  });
  return gone || infos.empty() ? "DEVICE_UNAVAILABLE" : "STARTING";
}

absl::StatusOr<Activity> DispatcherImpl::AskCoordinator(std::chrono::milliseconds patience) {
  std::shared_future<Activity> answer;
  {
    // One question at a time: a coordinator that hangs does not collect more of them.
    const std::lock_guard lock(answer_mutex_);
    if (!answer_.valid() || answer_.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
      const auto promise = std::make_shared<std::promise<Activity>>();
      std::shared_future<Activity> asked = promise->get_future().share();
      if (!coordinator_.Post([this, promise] { promise->set_value(scheduler_.Observe()); }))
        return base::Error(absl::StatusCode::kUnavailable, "DRAINING", "", "the coordinator has ended");
      answer_ = std::move(asked);
    }
    answer = answer_;
  }
  if (answer.wait_for(patience) == std::future_status::ready) return answer.get();
  return base::Error(absl::StatusCode::kDeadlineExceeded, "COORDINATOR_STALLED",
                     absl::StrCat(patience.count()), "the coordinator does not answer");
}

absl::Status DispatcherImpl::CheckAlive(std::chrono::milliseconds patience) {
  return AskCoordinator(patience).status();
}

absl::StatusOr<Activity> DispatcherImpl::Observe(std::chrono::milliseconds patience) {
  TS_ASSIGN_OR_RETURN(Activity activity, AskCoordinator(patience));
  for (const models::Model& model : catalogue_->repository().models()) {
    if (!model.good()) continue;
    const std::vector<v1::DeviceReadiness> devices = devices_.ReadinessOf(model.model_digest);
    for (std::size_t worker = 0; worker < devices.size(); ++worker) {
      activity.models.push_back({.model = model.name,
                                 .version = model.version,
                                 .device = devices[worker].device(),
                                 .worker = worker,
                                 .ready = devices[worker].readiness() == v1::MODEL_READINESS_WARM ||
                                          devices[worker].readiness() == v1::MODEL_READINESS_ON_DEMAND,
                                 .warm = devices[worker].readiness() == v1::MODEL_READINESS_WARM});
    }
  }
  activity.open_uploads = *open_uploads_;
  activity.host_bytes = ledger_.used();
  activity.host_limit_bytes = ledger_.limit();
  activity.helper_leases = helpers_->leases_started();
  activity.helper_deaths = helpers_->child_deaths();
  if (const auto used = spool_.UsedBytes(); used.ok()) activity.spool_bytes = *used;
  if (const auto free = spool_.FreeBytes(); free.ok()) activity.spool_free_bytes = *free;
  return activity;
}

}  // namespace tomoserve::dispatch
