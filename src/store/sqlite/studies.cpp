#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/sqlite/sqlite_store.h"

namespace tomoserve::store {

absl::StatusOr<StoredStudy> SqliteStore::GetStudy(std::string_view study_uid) {
  const std::scoped_lock lock(mutex_);
  return ReadStudy(*database_, study_uid);
}

absl::StatusOr<std::vector<StoredInstance>> SqliteStore::Instances(std::string_view study_uid) {
  const std::scoped_lock lock(mutex_);
  TS_RETURN_IF_ERROR(ReadStudy(*database_, study_uid).status());
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database_->Query("SELECT sop_uid, sha256, submission_id, offset, length, header FROM instances "
                       "WHERE tenant = ?1 AND study_uid = ?2 ORDER BY sop_uid",
                       kTenant, study_uid));
  std::vector<StoredInstance> instances;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return instances;
    StoredInstance& instance = instances.emplace_back();
    instance.sop_uid = query.Text(0);
    instance.sha256 = query.Text(1);
    instance.submission_id = query.Text(2);
    instance.offset = static_cast<std::uint64_t>(query.Int(3));
    instance.length = static_cast<std::uint64_t>(query.Int(4));
    TS_RETURN_IF_ERROR(query.Message(5, instance.header));
  }
}

absl::StatusOr<ExpectedInstances> SqliteStore::Expected(std::string_view study_uid) {
  const std::scoped_lock lock(mutex_);
  TS_RETURN_IF_ERROR(ReadStudy(*database_, study_uid).status());
  return ReadExpected(*database_, study_uid);
}

absl::StatusOr<std::vector<v1::InstanceStatus>> SqliteStore::Refused(std::string_view study_uid) {
  const std::scoped_lock lock(mutex_);
  TS_RETURN_IF_ERROR(ReadStudy(*database_, study_uid).status());
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database_->Query("SELECT receipt FROM submissions WHERE tenant = ?1 AND study_uid = ?2 AND "
                       "acknowledged = 1 ORDER BY created_us, submission_id",
                       kTenant, study_uid));
  std::vector<v1::InstanceStatus> refused;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return refused;
    v1::SubmissionReceipt receipt;
    TS_RETURN_IF_ERROR(query.Message(0, receipt));
    refused.insert(refused.end(), receipt.refused().begin(), receipt.refused().end());
  }
}

absl::Status SqliteStore::SetStudyState(std::string_view study_uid, v1::StudyState state) {
  if (state == v1::STUDY_STATE_UNSPECIFIED) {
    return base::Error(absl::StatusCode::kInvalidArgument, "STATE_INVALID", "", "a study needs a state");
  }
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(StoredStudy study, ReadStudy(*database_, study_uid));
    study.state = state;
    return WriteStudy(*database_, study);
  });
}

absl::Status SqliteStore::SetNotices(std::string_view study_uid, const std::vector<v1::Reason>& notices) {
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(StoredStudy study, ReadStudy(*database_, study_uid));
    study.notices = notices;
    return WriteStudy(*database_, study);
  });
}

absl::Status SqliteStore::SetUrgency(std::string_view study_uid, v1::Priority priority,
                                     std::optional<std::int64_t> deadline_us) {
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(StoredStudy study, ReadStudy(*database_, study_uid));
    if (priority != v1::PRIORITY_UNSPECIFIED) {
      study.priority = priority;
      TS_RETURN_IF_ERROR(WriteStudy(*database_, study));
      // A submission that is withdrawn later leaves the priority of those that stay.
      TS_RETURN_IF_ERROR(database_->Run(
          "UPDATE submissions SET priority = ?3 WHERE tenant = ?1 AND study_uid = ?2 AND cancelled = 0",
          kTenant, study_uid, priority));
      TS_RETURN_IF_ERROR(database_->Run("UPDATE runs SET priority = ?3 WHERE tenant = ?1 AND study_uid = ?2",
                                        kTenant, study_uid, priority));
    }
    if (deadline_us) {
      static_assert(v1::RUN_STATE_QUEUED == 1 && v1::RUN_STATE_RUNNING == 2);
      TS_RETURN_IF_ERROR(database_->Run(
          "UPDATE runs SET deadline_us = ?3 WHERE tenant = ?1 AND study_uid = ?2 AND state IN (1, 2)",
          kTenant, study_uid, *deadline_us));
    }
    return UpdateLines(study_uid);
  });
}

absl::StatusOr<std::vector<StoredStudy>> SqliteStore::OpenStudies() {
  const std::scoped_lock lock(mutex_);
  return ReadOpenStudies(*database_);
}

absl::StatusOr<std::vector<std::string>> SqliteStore::CancelSubmission(std::string_view study_uid,
                                                                       std::string_view submission_id) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> cancelled;
  const absl::Status committed = database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(StoredStudy study, ReadStudy(*database_, study_uid));
    if (submission_id.empty()) {
      TS_RETURN_IF_ERROR(database_->Run(
          "UPDATE submissions SET cancelled = 1 WHERE tenant = ?1 AND study_uid = ?2", kTenant, study_uid));
      TS_RETURN_IF_ERROR(
          database_->Run("DELETE FROM wants WHERE tenant = ?1 AND study_uid = ?2", kTenant, study_uid));
    } else {
      TS_ASSIGN_OR_RETURN(const Submission submission, ReadSubmission(*database_, submission_id));
      if (submission.study_uid != study_uid) {
        return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_SUBMISSION", submission_id,
                           "no submission of this study has this id");
      }
      TS_RETURN_IF_ERROR(
          database_->Run("UPDATE submissions SET cancelled = 1 WHERE tenant = ?1 AND submission_id = ?2",
                         kTenant, submission_id));
      TS_RETURN_IF_ERROR(database_->Run("DELETE FROM wants WHERE tenant = ?1 AND submission_id = ?2", kTenant,
                                        submission_id));
    }

    std::set<std::pair<std::string, std::string>> wanted;
    TS_ASSIGN_OR_RETURN(
        Statement wants,
        database_->Query("SELECT DISTINCT model_digest, recipe_digest FROM wants WHERE tenant = ?1 AND "
                         "study_uid = ?2",
                         kTenant, study_uid));
    while (true) {
      TS_ASSIGN_OR_RETURN(const bool row, wants.Step());
      if (!row) break;
      wanted.emplace(wants.Text(0), wants.Text(1));
    }
    // The study is as urgent as its most urgent living submission; answers that are there keep their place.
    TS_ASSIGN_OR_RETURN(Statement highest,
                        database_->Query("SELECT MAX(priority) FROM submissions WHERE tenant = ?1 "
                                         "AND study_uid = ?2 AND cancelled = 0",
                                         kTenant, study_uid));
    TS_ASSIGN_OR_RETURN(const bool living, highest.Step());
    if (living && !highest.IsNull(0)) study.priority = highest.EnumOf<v1::Priority>(0);
    TS_RETURN_IF_ERROR(WriteStudy(*database_, study));

    TS_ASSIGN_OR_RETURN(const std::vector<RunRow> rows, ReadRunsOfStudy(*database_, study_uid));
    for (RunRow row : rows) {
      if (IsFinal(row.stored.run.state())) continue;
      row.stored.priority = study.priority;
      if (!wanted.contains({row.stored.model_digest, row.stored.recipe_digest})) {
        row.stored.run.set_state(v1::RUN_STATE_CANCELLED);
        row.finished_us = now_us_();
        cancelled.push_back(row.stored.run.run_id());
      }
      TS_RETURN_IF_ERROR(WriteRun(*database_, row));
    }
    return absl::OkStatus();
  });
  if (!committed.ok()) return committed;
  return cancelled;
}

}  // namespace tomoserve::store
