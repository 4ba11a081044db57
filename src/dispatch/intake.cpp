#include "dispatch/intake.h"

#include <algorithm>
#include <utility>

#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr char kIdle[] = "STUDY_IDLE";

}  // namespace

Intake::Intake(store::JobStore& store, TaskQueue& coordinator, std::chrono::milliseconds idle,
               std::function<void(const std::string&)> changed)
    : store_(store), coordinator_(coordinator), idle_(idle), changed_(std::move(changed)) {}

absl::StatusOr<std::optional<v1::SubmissionReceipt>> Intake::Commit(const Proposal& proposal) {
  const std::string& study_uid = proposal.acknowledgement.study.study_uid;
  const auto before = store_.GetStudy(study_uid);
  if (!before.ok() && !absl::IsNotFound(before.status())) return before.status();
  if ((before.ok() ? before->instances : 0) != proposal.stored_instances) return std::nullopt;
  TS_ASSIGN_OR_RETURN(v1::SubmissionReceipt receipt, store_.Acknowledge(proposal.acknowledgement));
  base::Log(base::LogLevel::kInfo, "submission_acknowledged",
            {{"submission_id", receipt.submission_id()},
             {"study", base::HashedUid(study_uid)},
             {"instances", static_cast<std::int64_t>(receipt.instances_accepted())},
             {"refused", static_cast<std::int64_t>(receipt.instances_refused())},
             {"bytes", static_cast<std::int64_t>(receipt.bytes())},
             {"runs", static_cast<std::int64_t>(receipt.run_ids_size())}});
  // Durable from here on: what fails now is caught up with at the next start.
  if (const auto study = store_.GetStudy(study_uid); study.ok()) {
    EndIdle(*study);
    StartTimer(*study);
  }
  changed_(study_uid);
  return receipt;
}

absl::Status Intake::Close(const std::string& study_uid) {
  TS_ASSIGN_OR_RETURN(const store::StoredStudy study, store_.GetStudy(study_uid));
  timers_.erase(study_uid);
  EndIdle(study);
  if (study.state == v1::STUDY_STATE_COMPLETE) return absl::OkStatus();
  TS_RETURN_IF_ERROR(store_.SetStudyState(study_uid, v1::STUDY_STATE_COMPLETE));
  base::Log(base::LogLevel::kInfo, "study_closed", {{"study", base::HashedUid(study_uid)}});
  changed_(study_uid);
  return absl::OkStatus();
}

absl::Status Intake::Resume() {
  TS_ASSIGN_OR_RETURN(const std::vector<store::StoredStudy> studies, store_.OpenStudies());
  for (const store::StoredStudy& study : studies) StartTimer(study);
  return absl::OkStatus();
}

void Intake::StartTimer(const store::StoredStudy& study) {
  timers_.erase(study.study_uid);
  if (study.state == v1::STUDY_STATE_COMPLETE) return;
  const std::uint64_t timer = ++next_timer_;
  timers_[study.study_uid] = timer;
  const bool settling = study.state == v1::STUDY_STATE_SETTLING ||
                        (study.state == v1::STUDY_STATE_REOPENED && study.settle_seconds > 0);
  const std::chrono::milliseconds whole = settling ? std::chrono::seconds(study.settle_seconds) : idle_;
  // After a restart part of the time is over; a clock that was set meanwhile must not make it longer.
  const std::chrono::milliseconds past((base::NowUs() - study.last_instance_us) / 1000);
  const auto rest = std::clamp(whole - past, std::chrono::milliseconds(0), whole);
  coordinator_.PostAfter(rest, [this, study_uid = study.study_uid, timer, settling] {
    const auto newest = timers_.find(study_uid);
    if (newest == timers_.end() || newest->second != timer) return;
    timers_.erase(newest);
    settling ? Settled(study_uid) : Idle(study_uid);
  });
}

void Intake::Settled(const std::string& study_uid) {
  if (const absl::Status status = Close(study_uid); !status.ok()) {
    base::Log(base::LogLevel::kError, "settle_failed", {{"reason", base::ReasonOf(status)}});
    const std::uint64_t timer = ++next_timer_;
    timers_[study_uid] = timer;
    coordinator_.PostAfter(std::chrono::seconds(5), [this, study_uid, timer] {
      if (const auto newest = timers_.find(study_uid); newest != timers_.end() && newest->second == timer) {
        Settled(study_uid);
      }
    });
  }
}

void Intake::Idle(const std::string& study_uid) {
  AddStudyNotices(study_uid,
                  {MakeReason(kIdle, "", "more instances were announced, but none came for a long time")});
  base::Log(base::LogLevel::kWarning, "study_idle", {{"study", base::HashedUid(study_uid)}});
}

void Intake::EndIdle(const store::StoredStudy& study) {
  std::vector<v1::Reason> notices = study.notices;
  const auto is_idle = [](const v1::Reason& notice) { return notice.code() == kIdle; };
  if (std::erase_if(notices, is_idle) == 0) return;
  if (const absl::Status status = store_.SetNotices(study.study_uid, notices); !status.ok()) {
    base::Log(base::LogLevel::kError, "notice_failed", {{"reason", base::ReasonOf(status)}});
  }
}

void Intake::AddStudyNotices(const std::string& study_uid, const std::vector<v1::Reason>& notices) {
  const auto study = store_.GetStudy(study_uid);
  if (!study.ok()) return;
  std::vector<v1::Reason> all = study->notices;
  AddNotices(notices, all);
  if (all.size() == study->notices.size()) return;
  if (const absl::Status status = store_.SetNotices(study_uid, all); !status.ok()) {
    base::Log(base::LogLevel::kError, "notice_failed", {{"reason", base::ReasonOf(status)}});
  }
}

}  // namespace tomoserve::dispatch
