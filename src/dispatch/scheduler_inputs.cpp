// Which input a run gets, and when: studies that grow, plans, generations that are held.
#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/region.h"
#include "dispatch/scheduler.h"
#include "dispatch/study_age.h"
#include "dispatch/submission.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr char kGenerationsHeld[] = "GENERATIONS_HELD";

bool IsOpen(v1::RunState state) { return state == v1::RUN_STATE_QUEUED || state == v1::RUN_STATE_RUNNING; }

// What a plan needs to know of a run.
struct Wish {
  const models::Model* model = nullptr;
  bool solicited = true;
};

}  // namespace

void Scheduler::StudyChanged(const std::string& study_uid) {
  if (stopped_) return;
  const auto runs = services_.store.RunsOfStudy(study_uid);
  if (!runs.ok()) {
    base::Log(base::LogLevel::kError, "study_not_read", {{"reason", base::ReasonOf(runs.status())}});
    services_.coordinator.PostAfter(kRetry, [this, study_uid] { StudyChanged(study_uid); });
    return;
  }
  for (const store::StoredRun& run : *runs) {
    if (IsOpen(run.run.state())) AddRun(run);
  }
  const auto study = studies_.find(study_uid);
  if (study == studies_.end()) return;
  bool waiting = false;
  for (const std::string& run_id : study->second.runs) {
    Entry& entry = entries_.at(run_id);
    // QUEUED in the store: it takes the study as it is now.
    if (entry.phase == Phase::kReady && !entry.marked) {
      entry.phase = Phase::kWaiting;
      entry.input.reset();
    }
    waiting = waiting || entry.phase == Phase::kWaiting;
  }
  if (!waiting) return;
  if (study->second.planning) {
    study->second.again = true;
  } else {
    StartPlan(study_uid);
  }
}

void Scheduler::StartPlan(const std::string& study_uid) {
  StudyEntry& study = studies_.at(study_uid);
  study.again = false;
  study.plan = ++plans_;
  std::map<std::string, Wish> wishes;
  for (const std::string& run_id : study.runs) {
    const Entry& entry = entries_.at(run_id);
    if (entry.phase != Phase::kWaiting || entry.model == nullptr) continue;
    wishes.emplace(run_id, Wish{.model = entry.model, .solicited = entry.stored.solicited});
  }
  study.planning = services_.pool.Post([this, study_uid, wishes, number = study.plan] {
    const auto row = services_.store.GetStudy(study_uid);
    const bool complete = row.ok() && row->state == v1::STUDY_STATE_COMPLETE;
    std::optional<v1::Reason> stale;
    if (row.ok()) stale = StaleStudy(row->ref, services_.max_study_age_days, base::NowUs());
    const auto plan = std::make_shared<absl::StatusOr<Plan>>(Plan());
    const bool has_cascade = std::any_of(wishes.begin(), wishes.end(), [](const auto& wish) {
      return wish.second.model->recipe.has_region();
    });
    absl::StatusOr<std::vector<store::StoredRun>> runs = std::vector<store::StoredRun>();
    if (has_cascade) runs = services_.store.RunsOfStudy(study_uid);
    if (!runs.ok()) {
      *plan = runs.status();
    } else if (const auto study_input = LoadStudyInput(services_.store, study_uid); study_input.ok()) {
      for (const auto& [run_id, wish] : wishes) {
        RunInput input = WithRegion(ChooseInput(wish.model->recipe, *study_input), *wish.model, *runs,
                                    services_.catalogue);
        if (stale && !wish.solicited) input = WithoutVolume(std::move(input), *stale);
        (*plan)->emplace(run_id, std::make_shared<RunInput>(std::move(input)));
      }
    } else {
      *plan = study_input.status();
    }
    services_.coordinator.Post(
        [this, study_uid, number, plan, complete] { HandlePlan(study_uid, number, *plan, complete); });
  });
}

// A run starts when the study is complete or, with an expectation, its own series. Its later generations wait
// for other series that are expected: each of these would make one more.
bool Scheduler::StartsEarly(const Entry& entry, const RunInput& input) {
  if (!input.expectation || input.missing > 0) return false;
  return entry.stored.generation <= 1 || input.incomplete_series == 0;
}

void Scheduler::HandlePlan(const std::string& study_uid, std::uint64_t number,
                           const absl::StatusOr<Plan>& plan, bool complete) {
  const auto study = studies_.find(study_uid);
  if (study == studies_.end() || study->second.plan != number || stopped_) return;
  study->second.planning = false;
  if (study->second.again) return StartPlan(study_uid);
  if (!plan.ok()) {
    base::Log(base::LogLevel::kError, "study_not_planned", {{"reason", base::ReasonOf(plan.status())}});
    services_.coordinator.PostAfter(kRetry, [this, study_uid] { StudyChanged(study_uid); });
    return;
  }
  for (const auto& [run_id, input] : *plan) {
    Entry* entry = Find(run_id);
    if (entry == nullptr || entry->phase != Phase::kWaiting) continue;
    if (!complete && !StartsEarly(*entry, *input)) continue;
    if (input->study->series.identity_conflict) {
      Fail(run_id, MakeReason("IDENTITY_CONFLICT", "",
                              "the study holds instances of two patients: it is kept, but not analysed"));
      continue;
    }
    GiveInput(*entry, input);
  }
  Pump();
}

bool Scheduler::IsBeingComputed(const Entry& entry, const std::string& input_digest) const {
  const auto study = studies_.find(entry.stored.study_uid);
  return std::any_of(study->second.runs.begin(), study->second.runs.end(), [&](const std::string& run_id) {
    const Entry& other = entries_.at(run_id);
    return &other != &entry && other.input != nullptr && other.phase != Phase::kWaiting &&
           other.input->digest == input_digest && other.stored.model_digest == entry.stored.model_digest &&
           other.stored.recipe_digest == entry.stored.recipe_digest;
  });
}

void Scheduler::GiveInput(Entry& entry, std::shared_ptr<const RunInput> input) {
  const std::string run_id = entry.stored.run.run_id();
  if (IsBeingComputed(entry, input->digest)) return;
  const auto decision = services_.store.SetRunInput(run_id, input->digest, services_.generations);
  if (!decision.ok()) {
    if (absl::IsFailedPrecondition(decision.status())) return End(run_id);
    return Retry(run_id, "input_not_stored", decision.status(),
                 [this, study_uid = entry.stored.study_uid] { StudyChanged(study_uid); });
  }
  if (decision->held_until_us != 0) return Hold(entry, decision->held_until_us);
  LiftHold(entry);
  if (decision->taken_over) {
    services_.observer.OnRunTakenOver(entry.stored.run.model());
    return End(run_id);
  }
  entry.input = std::move(input);
  entry.stored.input_digest = entry.input->digest;
  entry.ready_ms = base::MonotonicMs();
  if (const series::Selection& selection = entry.input->selection; selection.volume() != nullptr) {
    entry.phase = Phase::kReady;
    const auto needs = Predict(entry.model->recipe, *selection.volume()->geometry, selection.time_points());
    entry.needs = needs.ok() ? std::optional(*needs) : std::nullopt;
    return;
  }
  entry.phase = Phase::kFinishing;
  const ResultContext context{
      .stored = entry.stored, .model = *entry.model, .input = *entry.input, .build = services_.build};
  Commit(run_id, std::make_shared<RunResult>(ResultWithoutVolume(context)));
}

void Scheduler::Hold(Entry& entry, std::int64_t until_us) {
  const std::string run_id = entry.stored.run.run_id();
  if (!entry.held) {
    entry.held = true;
    base::Log(base::LogLevel::kWarning, "generation_held",
              {{"run_id", run_id},
               {"model", entry.stored.run.model()},
               {"study", base::HashedUid(entry.stored.study_uid)},
               {"generation", static_cast<std::int64_t>(entry.stored.generation)}});
    services_.observer.OnGenerationHeld(entry.stored.run.model());
    SetHeldNotice(entry, true);
    Notify(entry);
  }
  if (entry.held_until_us == until_us) return;  // its timer runs
  entry.held_until_us = until_us;
  // A clock that was set meanwhile must not make it longer than the limit.
  const std::int64_t wait_us =
      std::clamp<std::int64_t>(until_us - base::NowUs(), 0, services_.generations.within_us);
  services_.coordinator.PostAfter(std::chrono::milliseconds(wait_us / 1000 + 1), [this, run_id] {
    Entry* held = Find(run_id);
    if (held == nullptr || stopped_) return;
    held->held_until_us = 0;
    StudyChanged(std::string(held->stored.study_uid));
  });
}

void Scheduler::LiftHold(Entry& entry) {
  if (!entry.held) return;
  entry.held = false;
  entry.held_until_us = 0;
  base::Log(base::LogLevel::kInfo, "generation_released",
            {{"run_id", entry.stored.run.run_id()}, {"model", entry.stored.run.model()}});
  SetHeldNotice(entry, false);
  Notify(entry);
}

void Scheduler::SetHeldNotice(const Entry& entry, bool held) {
  const v1::Run& run = entry.stored.run;
  const auto study = services_.store.GetStudy(entry.stored.study_uid);
  absl::Status status = study.status();
  if (study.ok()) {
    std::vector<v1::Reason> notices = study->notices;
    const v1::Reason notice = MakeReason(kGenerationsHeld, absl::StrCat(run.model(), " ", run.version()),
                                         absl::StrCat("more than ", services_.generations.generations,
                                                      " generations within an hour: the next one waits until "
                                                      "the hour has passed, or RerunStudy; models "
                                                      "that look where its labels say wait with it"));
    const bool is_there = std::erase_if(notices, [&](const v1::Reason& known) {
                            return known.code() == notice.code() && known.value() == notice.value();
                          }) > 0;
    if (is_there == held) return;
    if (held) notices.push_back(notice);
    status = services_.store.SetNotices(entry.stored.study_uid, notices);
  }
  // A notice is no reason to stop.
  if (!status.ok()) base::Log(base::LogLevel::kError, "notice_failed", {{"reason", base::ReasonOf(status)}});
}

}  // namespace tomoserve::dispatch
