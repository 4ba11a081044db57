// What becomes of runs: results, failures, deaths, cancellation, the end of the server.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/region.h"
#include "dispatch/scheduler.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {

void Scheduler::OnDeviceChanged() {
  UnloadGone();  // it could not be while it was being loaded
  Pump();
}

void Scheduler::OnProgress(const ipc::v1::RunProgress& progress) {
  Entry* entry = Find(progress.run_id());
  if (entry == nullptr || stopped_ || progress.windows_total() == 0 ||
      progress.windows_done() > progress.windows_total()) {
    return;
  }
  // The first word on it counts: the result has to agree.
  if (entry->windows_total == 0) entry->windows_total = progress.windows_total();
  if (entry->windows_total != progress.windows_total()) return;
  {
    const std::lock_guard lock(progress_mutex_);
    progress_[progress.run_id()] = static_cast<double>(progress.windows_done()) / progress.windows_total();
  }
  if (!entry->dropped) Notify(*entry);
}

double Scheduler::Progress(const std::string& run_id) const {
  const std::lock_guard lock(progress_mutex_);
  const auto progress = progress_.find(run_id);
  return progress == progress_.end() ? 0 : progress->second;
}

void Scheduler::OnRunDone(std::size_t worker, std::uint64_t life, const ipc::v1::RunDone& done) {
  Entry* entry = Find(done.run_id());
  if (entry == nullptr || stopped_) return;
  if (entry->dropped) return End(done.run_id());
  if (IsLate(*entry)) return FailLate(done.run_id());
  entry->phase = Phase::kFinishing;
  // Copies: the entry may go while the pool works.
  services_.pool.Post([this, worker, life, done, stored = entry->stored, model = entry->model,
                       input = entry->input, prepared = entry->prepared, hello = entry->worker,
                       on_cpu = entry->on_cpu, queue_ms = entry->queue_ms,
                       windows_total = entry->windows_total] {
    const ResultContext context{.stored = stored,
                                .model = *model,
                                .input = *input,
                                .build = services_.build,
                                .windows_total = windows_total};
    auto result = std::make_shared<absl::StatusOr<RunResult>>(
        FinishRun(context, *prepared, hello, on_cpu, done, queue_ms));
    services_.coordinator.Post([this, run_id = done.run_id(), worker, life, result] {
      HandleFinished(run_id, worker, life, result);
    });
  });
}

void Scheduler::HandleFinished(const std::string& run_id, std::size_t worker, std::uint64_t life,
                               const std::shared_ptr<absl::StatusOr<RunResult>>& result) {
  Entry* entry = Find(run_id);
  if (entry == nullptr || stopped_) return;
  entry->prepared.reset();
  Unblock();
  if (entry->dropped) return End(run_id);
  if (!result->ok()) {
    if (base::ReasonOf(result->status()) == "WORKER_LIED") {
      // Whatever made it lie sits in that process.
      base::Log(base::LogLevel::kError, "worker_lied",
                {{"run_id", run_id}, {"field", base::ValueOf(result->status())}});
      devices_.Kill(worker, life);
    }
    return Fail(run_id, ReasonFrom(result->status()));
  }
  Commit(run_id, std::make_shared<RunResult>(std::move(**result)));
}

void Scheduler::Commit(const std::string& run_id, const std::shared_ptr<const RunResult>& result) {
  Entry* entry = Find(run_id);
  if (entry == nullptr) return;
  if (entry->dropped) return End(run_id);
  const double began_ms = base::MonotonicMs();
  const absl::Status status = services_.store.CommitResult(result->run, result->blob);
  if (!status.ok() && !absl::IsFailedPrecondition(status)) {
    // A full disk must not cost a result.
    return Retry(run_id, "result_not_committed", status, [this, run_id, result] { Commit(run_id, result); });
  }
  const double now_ms = base::MonotonicMs();
  if (status.ok()) {
    services_.observer.OnRunDone({.run = result->run,
                                  .windows = result->windows,
                                  .commit_ms = now_ms - began_ms,
                                  .total_ms = now_ms - entry->ready_ms});
  }
  base::Log(base::LogLevel::kInfo, "run_done",
            {{"run_id", run_id},
             {"model", entry->model->name},
             {"study", base::HashedUid(entry->stored.study_uid)},
             {"flag", v1::FlagState_Name(result->run.flag().state())},
             {"findings", static_cast<std::int64_t>(result->run.findings_size())},
             {"commit_ms", now_ms - began_ms},
             {"ms", now_ms - entry->ready_ms}});
  End(run_id);
}

void Scheduler::Fail(const std::string& run_id, const v1::Reason& reason) {
  Entry* entry = Find(run_id);
  if (entry == nullptr) return;
  if (entry->dropped) return End(run_id);
  entry->prepared.reset();
  entry->phase = Phase::kFinishing;
  const absl::Status status = services_.store.CommitFailure(run_id, reason);
  if (!status.ok() && !absl::IsFailedPrecondition(status)) {
    return Retry(run_id, "failure_not_committed", status, [this, run_id, reason] { Fail(run_id, reason); });
  }
  if (status.ok()) services_.observer.OnRunFailed(entry->stored.run.model(), reason.code());
  base::Log(base::LogLevel::kWarning, "run_failed",
            {{"run_id", run_id}, {"model", entry->stored.run.model()}, {"reason", reason.code()}});
  End(run_id);
}

void Scheduler::AnswerWithoutRegion(Entry& entry, const v1::Reason& reason) {
  entry.prepared.reset();
  entry.phase = Phase::kFinishing;
  Unblock();
  entry.input = std::make_shared<RunInput>(Inconclusive(*entry.input, reason));
  const ResultContext context{
      .stored = entry.stored, .model = *entry.model, .input = *entry.input, .build = services_.build};
  Commit(entry.stored.run.run_id(), std::make_shared<RunResult>(ResultWithoutVolume(context)));
}

void Scheduler::End(const std::string& run_id) {
  const auto place = entries_.find(run_id);
  if (place == entries_.end()) return;
  Entry entry = std::move(place->second);
  entries_.erase(place);
  LiftHold(entry);
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.erase(run_id);
  }
  const std::string& study_uid = entry.stored.study_uid;
  const auto study = studies_.find(study_uid);
  study->second.runs.erase(run_id);
  if (study->second.runs.empty()) {
    studies_.erase(study);
  } else {
    // Another generation may have waited for this one's result.
    services_.coordinator.Post([this, study_uid] { StudyChanged(study_uid); });
  }
  Unblock();
  Notify(entry);
  services_.coordinator.Post([this] {
    UnloadGone();
    Pump();
  });
}

void Scheduler::OnRunFailed(const ipc::v1::RunFailed& failed) {
  Entry* entry = Find(failed.run_id());
  if (entry == nullptr || stopped_) return;
  const bool was_late = entry->late && !entry->dropped;
  if (was_late && IsLate(*entry)) return FailLate(failed.run_id());
  const v1::Reason reason = CleanReason(failed.reason(), "RUN_FAILED");
  if (was_late && reason.code() == "CANCELLED") return RunAgain(*entry);
  if (reason.code() == "OUT_OF_MEMORY" && !entry->dropped) return HandleShortage(*entry);
  if (reason.code() == "MODEL_NOT_LOADED" && !entry->dropped &&
      devices_.IsDoubted(entry->device, entry->stored.model_digest)) {
    return GoElsewhere(*entry);
  }
  if (entry->input != nullptr && entry->input->region && IsWithoutRegion(reason.code())) {
    return AnswerWithoutRegion(*entry, reason);
  }
  Fail(failed.run_id(), reason);
}

void Scheduler::RunAgain(Entry& entry) {
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.erase(entry.stored.run.run_id());
  }
  Release(entry);
  Notify(entry);
  services_.coordinator.Post([this] { Pump(); });
}

void Scheduler::GoElsewhere(Entry& entry) {
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.erase(entry.stored.run.run_id());
  }
  RestFor(entry, kRetry);
  Notify(entry);
}

void Scheduler::HandleShortage(Entry& entry) {
  const std::string run_id = entry.stored.run.run_id();
  const Patience& patience = services_.patience;
  const std::uint32_t tries = ++entry.memory_failures;
  if (tries >= patience.max_memory_tries) {
    return Fail(run_id, MakeReason("OUT_OF_MEMORY", absl::StrCat(entry.predicted_bytes),
                                   absl::StrCat("the device's memory did not suffice, ", tries,
                                                " times; so many bytes were predicted for the run's arrays, "
                                                "beside the network and its weights")));
  }
  base::Log(base::LogLevel::kWarning, "run_waits_for_device_memory",
            {{"run_id", run_id}, {"tries", static_cast<std::int64_t>(tries)}});
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.erase(run_id);
  }
  RestFor(entry, patience.first_memory_retry * (1u << std::min(tries - 1, 10u)));
  Notify(entry);
}

void Scheduler::OnRunLost(const std::string& run_id, const WorkerDeath& death, bool alone) {
  Entry* entry = Find(run_id);
  if (entry == nullptr || stopped_) return;
  if (entry->dropped) return End(run_id);
  if (IsLate(*entry)) return FailLate(run_id);
  // The dead worker could write to the arena: the pixels are decoded again.
  entry->prepared.reset();
  Unblock();
  bool quarantined = false;
  absl::Status status = absl::OkStatus();
  const bool lost = death.cause == DeathCause::kDeviceLost;
  if (IsBlamed(death)) {
    // Each loss costs a device, and there are only so many: the first one counts, and fewer are forgiven.
    const bool strike = alone && (lost || entry->stored.suspect);
    const Patience& patience = services_.patience;
    const auto recorded =
        services_.store.RecordDeath(run_id, strike, lost ? patience.max_run_losses : patience.max_strikes);
    status = recorded.status();
    if (recorded.ok()) {
      quarantined = *recorded;
      entry->stored.suspect = true;
      entry->stored.strikes += strike ? 1 : 0;
    }
  } else {
    status = services_.store.Requeue(run_id);
  }
  if (!status.ok()) {
    if (absl::IsFailedPrecondition(status)) return End(run_id);
    // Not preparable until the store has taken it down.
    entry->phase = Phase::kFinishing;
    return Retry(run_id, "death_not_recorded", status,
                 [this, run_id, death, alone] { OnRunLost(run_id, death, alone); });
  }
  base::Log(base::LogLevel::kWarning, quarantined ? "run_quarantined" : "run_requeued",
            {{"run_id", run_id},
             {"blamed", IsBlamed(death)},
             {"strikes", static_cast<std::int64_t>(entry->stored.strikes)}});
  if (quarantined) {
    services_.observer.OnRunQuarantined(entry->stored.run.model());
    return End(run_id);
  }
  services_.observer.OnRunRequeued(entry->stored.run.model(), IsBlamed(death));
  entry->marked = false;
  entry->stored.run.set_state(v1::RUN_STATE_QUEUED);
  entry->phase = Phase::kReady;
  entry->lost_device = entry->lost_device || lost;
  {
    const std::lock_guard lock(progress_mutex_);
    progress_.erase(run_id);
  }
  Notify(*entry);
}

void Scheduler::Cancelled(const std::vector<std::string>& run_ids) {
  for (const std::string& run_id : run_ids) {
    Entry* entry = Find(run_id);
    if (entry == nullptr) continue;
    if (!entry->dropped) services_.observer.OnRunCancelled(entry->stored.run.model());
    base::Log(base::LogLevel::kInfo, "run_cancelled", {{"run_id", run_id}});
    switch (entry->phase) {
      case Phase::kWaiting:
      case Phase::kReady:
      case Phase::kPrepared:
        End(run_id);
        continue;
      case Phase::kOnDevice:
        devices_.CancelRun(run_id);
        break;
      case Phase::kPreparing:
      case Phase::kFinishing:
        break;
    }
    entry->dropped = true;
    entry->stop->store(true);
    Notify(*entry);
  }
}

void Scheduler::OnWorkerDeath(const std::string& device, const WorkerDeath& death) {
  services_.observer.OnWorkerDeath(device, CauseOf(death));
}

void Scheduler::StopStarting() { starting_ = false; }

bool Scheduler::IsBusy() const {
  for (const auto& [run_id, entry] : entries_) {
    if (entry.phase == Phase::kOnDevice || entry.phase == Phase::kFinishing) return true;
  }
  return false;
}

void Scheduler::StopRuns() {
  starting_ = false;
  stopped_ = true;
  for (auto& [run_id, entry] : entries_) {
    entry.stop->store(true);
    if (entry.phase == Phase::kOnDevice) devices_.CancelRun(run_id);
    if (!entry.marked || entry.dropped) continue;
    if (const absl::Status status = services_.store.Requeue(run_id); !status.ok()) {
      // The next start finds it RUNNING and queues it.
      base::Log(base::LogLevel::kWarning, "run_not_requeued", {{"reason", base::ReasonOf(status)}});
    }
  }
}

void Scheduler::Notify(const Entry& entry) {
  services_.subscriptions.Notify(entry.stored.study_uid, entry.stored.run.run_id());
}

}  // namespace tomoserve::dispatch
