// Which run next, prepared when. Which input a run gets: scheduler_inputs.cpp; on which device:
// scheduler_places.cpp; what devices answer: scheduler_outcomes.cpp.
#include "dispatch/scheduler.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <utility>

#include "dispatch/instance_rules.h"
#include "dispatch/planning.h"
#include "dispatch/region.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::chrono::milliseconds kBlock{200};
// Runs that are prepared, or being prepared, before one more is: where they have few windows.
constexpr std::size_t kMostAhead = 16;

}  // namespace

Scheduler::Scheduler(Services services, Devices& devices)
    : services_(std::move(services)), devices_(devices) {}

absl::Status Scheduler::Resume() {
  TS_ASSIGN_OR_RETURN(const std::vector<store::StoredRun> runs, services_.store.OpenRuns());
  std::set<std::string> studies;
  for (store::StoredRun run : runs) {
    if (run.run.state() == v1::RUN_STATE_RUNNING) {
      TS_RETURN_IF_ERROR(services_.store.Requeue(run.run.run_id()));
      run.run.set_state(v1::RUN_STATE_QUEUED);
    }
    AddRun(run);
    studies.insert(run.study_uid);
    // What was held before is held again, or not.
    if (const Entry* entry = Find(run.run.run_id()); entry != nullptr) SetHeldNotice(*entry, false);
  }
  for (const std::string& study_uid : studies) StudyChanged(study_uid);
  return absl::OkStatus();
}

void Scheduler::AddRun(const store::StoredRun& stored) {
  const std::string& run_id = stored.run.run_id();
  const auto [place, is_new] = entries_.try_emplace(run_id);
  Entry& entry = place->second;
  if (!is_new) return SetUrgency(entry, stored);
  entry.stored = stored;
  entry.stop = std::make_shared<std::atomic<bool>>(false);
  entry.model = services_.catalogue.Find(stored.run.model(), stored.run.version(), stored.model_digest);
  studies_[stored.study_uid].runs.insert(run_id);
  if (entry.model == nullptr) {
    Fail(run_id,
         MakeReason("MODEL_GONE", stored.run.model(),
                    "the version that was asked for is not in the repository any more, or was changed"));
    return;
  }
  WatchDeadline(entry);
}

bool Scheduler::IsMoreUrgent(const Entry& a, const Entry& b) const {
  const auto key = [](const Entry& entry) {
    const store::StoredRun& run = entry.stored;
    const std::int64_t deadline =
        run.deadline_us == 0 ? std::numeric_limits<std::int64_t>::max() : run.deadline_us;
    const auto& created = run.run.created_at();
    return std::make_tuple(-static_cast<int>(run.priority), deadline, created.seconds(), created.nanos(),
                           run.run.run_id());
  };
  return key(a) < key(b);
}

Scheduler::Entry* Scheduler::MostUrgent(Phase phase, const std::function<bool(const Entry&)>& fits) {
  Entry* best = nullptr;
  for (auto& [run_id, entry] : entries_) {
    if (entry.phase != phase || !fits(entry)) continue;
    if (best == nullptr || IsMoreUrgent(entry, *best)) best = &entry;
  }
  return best;
}

void Scheduler::Pump() {
  if (!starting_) return;
  FailRefused();
  devices_.LoadWanted(Wants());
  StartPreparations(FillDevices());
}

bool Scheduler::IsInRepository(const std::string& model_digest) const {
  return FindIn(services_.catalogue.repository(), "", "", model_digest) != nullptr;
}

void Scheduler::UnloadGone() {
  for (const std::string& digest : devices_.Known()) {
    if (IsInRepository(digest)) continue;
    const bool wanted = std::any_of(entries_.begin(), entries_.end(), [&](const auto& entry) {
      return entry.second.stored.model_digest == digest;
    });
    if (!wanted) devices_.Unload(digest);
  }
}

void Scheduler::FailRefused() {
  std::map<std::string, v1::Reason> refused;
  for (const auto& [run_id, entry] : entries_) {
    if (entry.phase != Phase::kReady && entry.phase != Phase::kPrepared) continue;
    const std::string& digest = entry.stored.model_digest;
    // No worker that comes up will load it.
    if (!devices_.IsWarmSomewhere(digest) && !IsInRepository(digest)) {
      refused.emplace(run_id,
                      MakeReason("MODEL_GONE", entry.stored.run.model(),
                                 "the version was removed from the repository, or changed there, and no "
                                 "device has it any more"));
    } else if (auto reason = devices_.RefusedEverywhere(digest)) {
      refused.emplace(run_id, MakeReason("MODEL_REFUSED", reason->code(), reason->text()));
    } else if (auto too_large = TooLarge(entry)) {
      refused.emplace(run_id, *std::move(too_large));
    }
  }
  for (const auto& [run_id, reason] : refused) Fail(run_id, reason);
}

RunDemand Scheduler::DemandOf(const Entry& entry, std::size_t worker) const {
  RunDemand demand;
  if (entry.needs) {
    demand = Demand(entry.model->recipe, *entry.needs, devices_.IsCpu(worker),
                    devices_.PassesOn(worker, entry.stored.model_digest));
  }
  demand.urgency = static_cast<std::uint32_t>(entry.stored.priority);
  demand.deadline_us = entry.stored.deadline_us;
  if (const auto& buckets = devices_.ModelOn(worker, entry.stored.model_digest).buckets; !buckets.empty()) {
    demand.bucket = buckets.back();
  }
  demand.alone = !entry.needs || entry.stored.suspect || entry.memory_failures > 0;
  return demand;
}

std::optional<v1::Reason> Scheduler::TooLarge(const Entry& entry) const {
  std::optional<v1::Reason> reason;
  const std::string& digest = entry.stored.model_digest;
  const bool is_loaded = IsInRepository(digest);
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    if (is_loaded && devices_.MayGet(worker, digest)) return std::nullopt;
    if (devices_.ModelOn(worker, digest).readiness != v1::MODEL_READINESS_WARM) continue;
    const absl::Status status = devices_.CheckFitsEver(worker, digest, DemandOf(entry, worker));
    if (status.ok()) return std::nullopt;
    reason = ReasonFrom(status);
  }
  return reason;
}

std::uint64_t Scheduler::WindowsMissing(const Entry& entry) const {
  std::uint64_t missing = 0;
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    if (MayRunOn(worker, entry)) missing += devices_.WindowsMissing(worker, DemandOf(entry, worker));
  }
  return missing;
}

void Scheduler::StartPreparations(const std::vector<std::size_t>& unwanted) {
  for (;;) {
    Entry* entry = MostUrgent(Phase::kReady, [this](const Entry& candidate) {
      return !WaitsForRegion(candidate) && !candidate.resting &&
             devices_.IsWarmSomewhere(candidate.stored.model_digest);
    });
    if (entry == nullptr || entry->blocked) return;
    // Enough lies ready that comes before it: host memory is for the next runs, not for all.
    std::size_t ahead = 0;
    std::uint64_t windows_ahead = 0;
    for (const auto& [run_id, other] : entries_) {
      // Nobody takes the room that was made for it.
      if (other.phase == Phase::kPreparing && other.needs_room) return;
      const bool is_ahead = other.phase == Phase::kPreparing || other.phase == Phase::kPrepared;
      // One whose model has made room meanwhile waits for it, and takes no device.
      if (!is_ahead || !IsMoreUrgent(other, *entry) || !devices_.IsWarmSomewhere(other.stored.model_digest)) {
        continue;
      }
      ++ahead;
      windows_ahead += other.needs ? other.needs->windows : std::numeric_limits<std::uint32_t>::max();
    }
    const bool wanted = std::any_of(unwanted.begin(), unwanted.end(),
                                    [&](std::size_t worker) { return MayRunOn(worker, *entry); });
    const bool suffices = ahead > devices_.count() && windows_ahead >= WindowsMissing(*entry);
    if (ahead >= kMostAhead || (suffices && !wanted)) return;
    Prepare(*entry);
  }
}

void Scheduler::Prepare(Entry& entry) {
  const std::string run_id = entry.stored.run.run_id();
  if (!entry.marked) {
    if (const absl::Status status = services_.store.MarkRunning(run_id); !status.ok()) {
      if (absl::IsFailedPrecondition(status)) return End(run_id);
      base::Log(base::LogLevel::kError, "run_not_marked", {{"reason", base::ReasonOf(status)}});
      return Block(entry);
    }
    entry.marked = true;
    entry.stored.run.set_state(v1::RUN_STATE_RUNNING);
    if (entry.queue_ms == 0) {
      entry.queue_ms = base::MonotonicMs() - entry.ready_ms;
      services_.observer.OnRunDequeued(entry.stored.priority, entry.queue_ms);
    }
    Notify(entry);
  }
  entry.phase = Phase::kPreparing;
  entry.stop = std::make_shared<std::atomic<bool>>(false);
  services_.pool.Post([this, run_id, model = entry.model, input = entry.input, stop = entry.stop,
                       urgency = static_cast<std::uint32_t>(entry.stored.priority)] {
    auto prepared =
        std::make_shared<Prepared>(PrepareRun(services_.preparation, run_id, *model, *input, urgency, *stop));
    services_.coordinator.Post([this, run_id, prepared] { HandlePrepared(run_id, *prepared); });
  });
}

void Scheduler::HandlePrepared(const std::string& run_id, Prepared& prepared) {
  Entry* entry = Find(run_id);
  if (entry == nullptr || stopped_) return;
  if (entry->dropped) return End(run_id);
  if (IsLate(*entry)) return FailLate(run_id);
  if (prepared.ok()) {
    entry->prepared = *std::move(prepared);
    entry->phase = Phase::kPrepared;
    entry->needs_room = false;
    entry->failed_preparations = 0;
  } else if (absl::IsCancelled(prepared.status())) {
    Release(*entry);
  } else if (absl::IsResourceExhausted(prepared.status()) &&
             base::ReasonOf(prepared.status()) == "HOST_MEMORY") {
    if (!entry->needs_room) {
      base::Log(base::LogLevel::kInfo, "run_waits_for_memory",
                {{"run_id", run_id}, {"bytes", base::ValueOf(prepared.status())}});
    }
    entry->phase = Phase::kReady;
    entry->needs_room = true;
    Block(*entry);
    MakeRoomFor(*entry);
  } else if (absl::IsUnavailable(prepared.status())) {
    Rest(run_id, prepared.status());
  } else if (base::ReasonOf(prepared.status()) == "REGION_CHANGED") {
    PlanAgain(*entry);
  } else if (IsWithoutRegion(base::ReasonOf(prepared.status()))) {
    AnswerWithoutRegion(*entry, ReasonFrom(prepared.status()));
  } else {
    Fail(run_id, ReasonFrom(prepared.status()));
  }
  Pump();
}

void Scheduler::PlanAgain(Entry& entry) {
  const std::string run_id = entry.stored.run.run_id();
  if (const absl::Status status = services_.store.Requeue(run_id); absl::IsFailedPrecondition(status))
    return End(run_id);
  entry.marked = false;
  entry.stored.run.set_state(v1::RUN_STATE_QUEUED);
  Release(entry);
  entry.resting = true;  // until it has another input
  services_.coordinator.PostAfter(kRetry, [this, run_id, study_uid = entry.stored.study_uid] {
    Entry* again = Find(run_id);
    if (again == nullptr || stopped_) return;
    again->resting = false;
    StudyChanged(study_uid);
  });
}

void Scheduler::Rest(const std::string& run_id, const absl::Status& status) {
  Entry& entry = entries_.at(run_id);
  const Patience& patience = services_.patience;
  if (++entry.failed_preparations >= patience.max_preparations) return Fail(run_id, ReasonFrom(status));
  base::Log(base::LogLevel::kWarning, "run_not_prepared",
            {{"run_id", run_id},
             {"reason", base::ReasonOf(status)},
             {"value", base::ValueOf(status)},
             {"tries", static_cast<std::int64_t>(entry.failed_preparations)}});
  std::chrono::milliseconds delay = patience.first_preparation;
  for (std::uint32_t i = 1; i < entry.failed_preparations && delay < patience.longest_preparation; ++i) {
    delay *= 2;
  }
  RestFor(entry, std::min(delay, patience.longest_preparation));
  if (base::ReasonOf(status) == "HOST_MEMORY") MakeRoomFor(entry);
}

void Scheduler::RestFor(Entry& entry, std::chrono::milliseconds delay) {
  entry.needs_room = false;
  entry.resting = true;
  Release(entry);
  services_.coordinator.PostAfter(delay, [this, run_id = entry.stored.run.run_id()] {
    Entry* rested = Find(run_id);
    if (rested == nullptr || stopped_) return;
    rested->resting = false;
    Pump();
  });
}

void Scheduler::MakeRoomFor(const Entry& entry) {
  Entry* least = nullptr;
  for (auto& [run_id, other] : entries_) {
    if (other.phase != Phase::kPrepared || !IsMoreUrgent(entry, other)) continue;
    if (least == nullptr || IsMoreUrgent(*least, other)) least = &other;
  }
  // Arenas are a cache of the spool: it is decoded again later.
  if (least != nullptr) Release(*least);
}

void Scheduler::Release(Entry& entry) {
  entry.prepared.reset();
  entry.phase = Phase::kReady;
  Unblock();
}

void Scheduler::Block(Entry& entry) {
  entry.blocked = true;
  services_.coordinator.PostAfter(kBlock, [this] {
    Unblock();
    Pump();
  });
}

void Scheduler::Unblock() {
  for (auto& [run_id, entry] : entries_) entry.blocked = false;
}

Scheduler::Entry* Scheduler::Find(const std::string& run_id) {
  const auto entry = entries_.find(run_id);
  return entry == entries_.end() ? nullptr : &entry->second;
}

void Scheduler::Retry(const std::string& run_id, const char* what, const absl::Status& status,
                      std::function<void()> task) {
  base::Log(base::LogLevel::kError, what, {{"run_id", run_id}, {"reason", base::ReasonOf(status)}});
  services_.coordinator.PostAfter(kRetry, [this, run_id, task = std::move(task)] {
    if (!stopped_ && entries_.contains(run_id)) task();
  });
}

}  // namespace tomoserve::dispatch
