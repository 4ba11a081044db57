// Urgency that changes while a run is open, and deadlines that pass.
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/scheduler.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"

namespace tomoserve::dispatch {
namespace {

// A deadline may be centuries away, and a clock may be set meanwhile.
constexpr std::int64_t kLongestWaitUs = 60ll * 1000000;

}  // namespace

void Scheduler::SetUrgency(Entry& entry, const store::StoredRun& stored) {
  entry.stored.solicited = stored.solicited;
  if (entry.stored.priority == stored.priority && entry.stored.deadline_us == stored.deadline_us) return;
  entry.stored.priority = stored.priority;
  entry.stored.deadline_us = stored.deadline_us;
  if (entry.phase == Phase::kOnDevice) {
    devices_.UpdateRun(stored.run.run_id(), static_cast<std::uint32_t>(stored.priority), stored.deadline_us);
  }
  WatchDeadline(entry);
  // There may be a place for it now.
  services_.coordinator.Post([this] { Pump(); });
}

void Scheduler::WatchDeadline(Entry& entry) {
  const std::int64_t deadline_us = entry.stored.deadline_us;
  if (entry.model == nullptr || entry.model->recipe.when_late() != v1::WHEN_LATE_STOP) return;
  if (deadline_us == 0 || entry.deadline_watched_us == deadline_us) return;  // its timer runs
  entry.deadline_watched_us = deadline_us;
  const std::int64_t wait_us = std::clamp<std::int64_t>(deadline_us - base::NowUs(), 0, kLongestWaitUs);
  services_.coordinator.PostAfter(
      std::chrono::milliseconds((wait_us + 999) / 1000),
      [this, run_id = entry.stored.run.run_id(), deadline_us] { HandleDeadline(run_id, deadline_us); });
}

void Scheduler::HandleDeadline(const std::string& run_id, std::int64_t deadline_us) {
  Entry* entry = Find(run_id);
  // Of a deadline that was changed meanwhile: another timer runs.
  if (entry == nullptr || stopped_ || entry->deadline_watched_us != deadline_us) return;
  entry->deadline_watched_us = 0;
  if (entry->dropped || entry->late) return;
  if (entry->stored.deadline_us != deadline_us || base::NowUs() < deadline_us) return WatchDeadline(*entry);
  base::Log(base::LogLevel::kInfo, "run_late", {{"run_id", run_id}, {"model", entry->stored.run.model()}});
  switch (entry->phase) {
    case Phase::kWaiting:
    case Phase::kReady:
    case Phase::kPrepared:
      return FailLate(run_id);
    case Phase::kPreparing:
      entry->late = true;
      entry->stop->store(true);
      return;
    case Phase::kOnDevice:
      // The worker lets it go after the batch in flight.
      entry->late = true;
      return devices_.CancelRun(run_id);
    case Phase::kFinishing:
      return;  // its last window was in time
  }
}

bool Scheduler::IsLate(Entry& entry) {
  const std::int64_t deadline_us = entry.stored.deadline_us;
  // It may have been moved while the step in progress came to its end.
  if (deadline_us == 0 || base::NowUs() < deadline_us) entry.late = false;
  return entry.late;
}

void Scheduler::FailLate(const std::string& run_id) {
  const Entry& entry = entries_.at(run_id);
  Fail(run_id, MakeReason("DEADLINE_EXPIRED", absl::StrCat(entry.stored.deadline_us / 1000),
                          "the study's deadline (milliseconds since 1970) has passed, and the recipe stops "
                          "then"));
}

}  // namespace tomoserve::dispatch
