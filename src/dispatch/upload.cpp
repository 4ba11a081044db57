#include "dispatch/upload.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/refusals.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Two submitters of one study may commit at the same time; each attempt is lost only to a commit that
// succeeded.
constexpr int kCommitAttempts = 100;

absl::Status Invalid(std::string_view code, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, code, value, text);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Upload>> UploadSession::Open(UploadServices& services,
                                                            store::Submission submission,
                                                            std::vector<store::WantedModel> models,
                                                            std::function<void()> released) {
  std::unique_ptr<UploadSession> upload(
      new UploadSession(services, std::move(submission), std::move(models), std::move(released)));
  upload->state_.set_submission_id(upload->submission_.submission_id);
  if (upload->submission_.acknowledged) {
    upload->receipt_ = upload->submission_.receipt;
  } else {
    // Its opener counts the refusal.
    TS_RETURN_IF_ERROR(upload->failed_ = upload->OpenSpool());
  }
  return upload;
}

UploadSession::UploadSession(UploadServices& services, store::Submission submission,
                             std::vector<store::WantedModel> models, std::function<void()> released)
    : services_(services),
      submission_(std::move(submission)),
      models_(std::move(models)),
      released_(std::move(released)),
      began_ms_(base::MonotonicMs()) {}

UploadSession::~UploadSession() {
  if (pass_) pass_->Abandon();
  if (!receipt_ && writer_) {
    if (failed_.ok()) CountRefused("UPLOAD_DROPPED");
    if (place_ == Place::kSpool) {
      if (const absl::Status status = writer_->Abandon(); !status.ok()) {
        base::Log(base::LogLevel::kWarning, "upload_abandon_failed", {{"reason", base::ReasonOf(status)}});
      }
    }
    // While the file is still locked: whoever resumes it next must not lose it. The header pass has its own
    // descriptor and may still read.
    if (submission_.idempotency_key.empty() || worthless_) RemoveSpool();
    writer_.reset();
    base::Log(base::LogLevel::kInfo, "upload_dropped", {{"submission_id", submission_.submission_id}});
  }
  if (!receipt_ && submission_.idempotency_key.empty()) {
    // What is left after an error goes at the next start.
    if (const absl::Status status = services_.store.ForgetKeyless(submission_.submission_id); !status.ok()) {
      base::Log(base::LogLevel::kWarning, "upload_not_forgotten", {{"reason", base::ReasonOf(status)}});
    }
  }
  released_();
}

void UploadSession::RemoveSpool() {
  const std::string& id = submission_.submission_id;
  const auto submission = services_.store.GetSubmission(id);
  if (!submission.ok() && !absl::IsNotFound(submission.status())) return;
  if (submission.ok() && submission->acknowledged) {
    const auto instances = services_.store.Instances(submission->receipt.study_instance_uid());
    if (!instances.ok()) return;
    if (std::any_of(instances->begin(), instances->end(),
                    [&id](const store::StoredInstance& instance) { return instance.submission_id == id; })) {
      return;
    }
  }
  if (const absl::Status status = services_.spool.Remove(id); !status.ok()) {
    base::Log(base::LogLevel::kWarning, "spool_remove_failed", {{"reason", base::ReasonOf(status)}});
  }
}

absl::Status UploadSession::OpenSpool() {
  TS_ASSIGN_OR_RETURN(store::SpoolWriter writer, services_.spool.OpenWriter(submission_.submission_id));
  TS_ASSIGN_OR_RETURN(base::UniqueFd spool, writer.OpenReadOnly());
  struct stat file {};
  if (::fstat(spool.get(), &file) != 0 || file.st_nlink == 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "UPLOAD_IN_PROGRESS", "",
                       "another stream has just ended this upload; try again");
  }
  // Another stream may have been acknowledged between the reading of the row and the lock.
  TS_ASSIGN_OR_RETURN(const store::Submission now, services_.store.GetSubmission(submission_.submission_id));
  if (now.acknowledged) {
    receipt_ = now.receipt;
    // Opening may have made it anew.
    if (writer.bytes() == 0) RemoveSpool();
    return absl::OkStatus();
  }
  writer_ = std::move(writer);
  TS_ASSIGN_OR_RETURN(std::vector<store::SpoolRecord> records,
                      services_.spool.Scan(submission_.submission_id));
  store::JobStore& store = services_.store;
  const auto known = [&store](const std::string& study_uid) {
    KnownContents contents;
    // What cannot be read now is found when the acknowledgement is composed.
    if (const auto instances = store.Instances(study_uid); instances.ok()) {
      for (const store::StoredInstance& instance : *instances)
        contents.emplace(instance.sop_uid, instance.sha256);
    }
    return contents;
  };
  pass_ = std::make_shared<HeaderPass>(services_.helpers, services_.header_pool, std::move(spool),
                                       InstanceJudge(submission_.header, known), services_.observer);
  for (store::SpoolRecord& record : records) {
    state_.add_instance_keys(record.instance_key);
    resumed_keys_.insert(record.instance_key);
    keys_.insert(record.instance_key);
    bytes_ += record.length;
    pass_->Add(std::move(record));
  }
  return absl::OkStatus();
}

v1::UploadState UploadSession::state() const { return state_; }

std::optional<v1::SubmissionReceipt> UploadSession::receipt() const { return receipt_; }

void UploadSession::CountRefused(std::string_view reason) const {
  if (services_.observer != nullptr) services_.observer->OnSubmissionRefused(reason);
}

absl::Status UploadSession::Fail(absl::Status status) {
  if (failed_.ok()) {
    failed_ = status;
    CountRefused(base::ReasonOf(status));
  }
  return status;
}

absl::Status UploadSession::BeginInstance(const v1::InstanceStart& start) {
  if (receipt_) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "SUBMISSION_FINAL", "",
                       "the submission is acknowledged");
  }
  TS_RETURN_IF_ERROR(failed_);
  if (place_ != Place::kNone) {
    return Fail(
        Invalid("INSTANCE_SIZE", absl::StrCat(received_),
                absl::StrCat("the instance before ended after ", received_, " of ", expected_, " bytes")));
  }
  if (start.instance_key().empty()) return Fail(Invalid("KEY_INVALID", "", "an instance needs a key"));
  if (const absl::Status status = StartInstance(start); !status.ok()) return Fail(status);
  return absl::OkStatus();
}

absl::Status UploadSession::StartInstance(const v1::InstanceStart& start) {
  const std::string& key = start.instance_key();
  const config::v1::Limits& limits = services_.limits;
  expected_ = start.size_bytes();
  received_ = 0;
  if (resumed_keys_.contains(key)) {
    v1::InstanceStatus status;
    status.set_instance_key(key);
    status.set_outcome(v1::INSTANCE_OUTCOME_DUPLICATE);
    pass_->AddStatus(std::move(status));
    place_ = Place::kNowhere;
  } else if (!keys_.insert(key).second) {
    return Invalid("KEY_REPEATED", key, "two instances of the submission have the same key");
  } else if (keys_.size() > limits.study_instances()) {
    return Invalid("TOO_MANY_INSTANCES", absl::StrCat(limits.study_instances()),
                   "the submission has too many instances");
  } else if (start.size_bytes() > limits.instance_bytes()) {
    pass_->Refuse(key, MakeReason("INSTANCE_TOO_LARGE", absl::StrCat(start.size_bytes()),
                                  absl::StrCat("the limit is ", limits.instance_bytes(), " bytes")));
    place_ = Place::kNowhere;
  } else if (start.size_bytes() == 0) {
    pass_->Refuse(key, MakeReason("EMPTY_FILE", "0", "the file has no bytes"));
    return absl::OkStatus();
  } else if (bytes_ + start.size_bytes() > limits.study_bytes()) {
    return Invalid("STUDY_TOO_LARGE", absl::StrCat(limits.study_bytes()),
                   "the submission has too many bytes");
  } else {
    // The database needs some of what is left.
    TS_ASSIGN_OR_RETURN(const std::uint64_t free_bytes, services_.spool.FreeBytes());
    if (free_bytes < start.size_bytes() + limits.min_free_bytes() / 2) {
      return base::Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", absl::StrCat(free_bytes),
                         "no room for the instance on the spool's disk");
    }
    TS_RETURN_IF_ERROR(writer_->Begin(key, start.size_bytes()));
    place_ = Place::kSpool;
  }
  return expected_ == 0 ? EndInstance() : absl::OkStatus();
}

absl::Status UploadSession::Append(std::string_view bytes) {
  TS_RETURN_IF_ERROR(failed_);
  if (bytes.empty()) return absl::OkStatus();
  if (services_.observer != nullptr) services_.observer->OnUploadBytes(bytes.size());
  if (place_ == Place::kNone)
    return Fail(Invalid("INSTANCE_SIZE", "", "bytes came that belong to no instance"));
  if (bytes.size() > expected_ - received_) {
    return Fail(Invalid("INSTANCE_SIZE", absl::StrCat(expected_),
                        "more bytes came than the instance was said to have"));
  }
  if (place_ == Place::kSpool) {
    if (const absl::Status status = writer_->Append(bytes); !status.ok()) return Fail(status);
  }
  received_ += bytes.size();
  return received_ == expected_ ? EndInstance() : absl::OkStatus();
}

absl::Status UploadSession::EndInstance() {
  const Place place = std::exchange(place_, Place::kNone);
  if (place != Place::kSpool) return absl::OkStatus();
  auto record = writer_->End();
  if (!record.ok()) return Fail(record.status());
  bytes_ += record->length;
  pass_->Add(*std::move(record));
  return absl::OkStatus();
}

std::vector<v1::InstanceStatus> UploadSession::TakeStatuses() {
  return pass_ ? pass_->TakeStatuses() : std::vector<v1::InstanceStatus>();
}

absl::StatusOr<v1::SubmissionReceipt> UploadSession::Finish() {
  if (receipt_) return *receipt_;
  TS_RETURN_IF_ERROR(failed_);
  if (place_ != Place::kNone) {
    return Fail(
        Invalid("INSTANCE_SIZE", absl::StrCat(received_),
                absl::StrCat("the last instance ended after ", received_, " of ", expected_, " bytes")));
  }
  upload_ms_ = base::MonotonicMs() - began_ms_;
  auto receipt = Commit();
  if (!receipt.ok()) {
    worthless_ = absl::IsInvalidArgument(receipt.status());
    return Fail(receipt.status());
  }
  receipt_ = *receipt;
  return receipt;
}

absl::StatusOr<v1::SubmissionReceipt> UploadSession::Commit() {
  TS_ASSIGN_OR_RETURN(const InstanceJudge* const judge, pass_->Wait());
  const double judged_ms = base::MonotonicMs();
  TS_RETURN_IF_ERROR(writer_->Sync());
  const std::string study_uid = SubmissionStudyUid(*judge);
  for (int attempt = 0; attempt < kCommitAttempts; ++attempt) {
    std::vector<store::StoredInstance> stored;
    if (!study_uid.empty()) {
      auto instances = services_.store.Instances(study_uid);
      if (!instances.ok() && !absl::IsNotFound(instances.status())) return instances.status();
      if (instances.ok()) stored = *std::move(instances);
    }
    const auto proposal = ComposeProposal(submission_.submission_id, *judge, study_uid, stored, models_,
                                          services_.limits, base::NowUs());
    if (!proposal.ok()) {
      if (!stored.empty()) NoteRefusals(*judge, study_uid);
      return proposal.status();
    }
    TS_ASSIGN_OR_RETURN(const auto receipt, services_.commit(*proposal));
    if (!receipt) continue;
    if (services_.observer != nullptr) {
      services_.observer->OnSubmissionAcknowledged({.receipt = *receipt,
                                                    .upload_ms = upload_ms_,
                                                    .header_ms = pass_->busy_ms(),
                                                    .acknowledge_ms = base::MonotonicMs() - judged_ms});
    }
    // All of it was there already.
    if (proposal->acknowledgement.instances.empty()) RemoveSpool();
    return *receipt;
  }
  return base::Error(absl::StatusCode::kAborted, "STUDY_BUSY", "",
                     "other submissions of the study came in between");
}

void UploadSession::NoteRefusals(const InstanceJudge& judge, const std::string& study_uid) const {
  const std::vector<v1::Reason> notices = RefusalNotices(judge.refused());
  if (!notices.empty() && services_.add_notices) services_.add_notices(study_uid, notices);
}

}  // namespace tomoserve::dispatch
