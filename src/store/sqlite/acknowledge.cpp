#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "store/files.h"
#include "store/sqlite/merge.h"
#include "store/sqlite/sqlite_store.h"

namespace tomoserve::store {
namespace {

using ModelKey = std::pair<std::string, std::string>;  // model digest, recipe digest

// Writes the instances that are not there yet and returns their number; the same UID with the same content is
// a duplicate, whoever sent it first.
absl::StatusOr<std::uint32_t> InsertInstances(Database& database, const Acknowledgement& acknowledgement) {
  std::uint32_t inserted = 0;
  for (const StoredInstance& instance : acknowledgement.instances) {
    TS_RETURN_IF_ERROR(database.Run(
        "INSERT INTO instances (tenant, study_uid, sop_uid, sha256, submission_id, offset, length, header) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (tenant, study_uid, sop_uid) DO NOTHING",
        kTenant, acknowledgement.study.study_uid, instance.sop_uid, instance.sha256, instance.submission_id,
        instance.offset, instance.length, Blob{Serialise(instance.header)}));
    if (database.Changes() == 1) {
      ++inserted;
      continue;
    }
    TS_ASSIGN_OR_RETURN(Statement query,
                        database.Query("SELECT sha256 FROM instances WHERE tenant = ?1 AND "
                                       "study_uid = ?2 AND sop_uid = ?3",
                                       kTenant, acknowledgement.study.study_uid, instance.sop_uid));
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row || query.Text(0) != instance.sha256) {
      return base::Error(absl::StatusCode::kAlreadyExists, "INSTANCE_CONFLICT", instance.sop_uid,
                         "the study has an instance with this UID and other content");
    }
  }
  return inserted;
}

// What living submissions want of a study.
absl::StatusOr<std::set<ModelKey>> WantedKeys(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(Statement query,
                      database.Query("SELECT DISTINCT model_digest, recipe_digest FROM wants "
                                     "WHERE tenant = ?1 AND study_uid = ?2",
                                     kTenant, study_uid));
  std::set<ModelKey> keys;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return keys;
    keys.emplace(query.Text(0), query.Text(1));
  }
}

bool IsStale(const v1::Run& run) {
  return run.flag().state() == v1::FLAG_STATE_NOT_APPLICABLE &&
         std::any_of(run.flag().reasons().begin(), run.flag().reasons().end(),
                     [](const v1::Reason& reason) { return reason.code() == "STALE_STUDY"; });
}

// A cascade whose other model did not run then: it may now.
bool LacksRegion(const v1::Run& run) {
  return run.flag().state() == v1::FLAG_STATE_INCONCLUSIVE &&
         std::any_of(run.flag().reasons().begin(), run.flag().reasons().end(),
                     [](const v1::Reason& reason) { return reason.code() == "REGION_NOT_RUN"; });
}

// Whether a wanted run needs a new generation, given its newest one.
bool NeedsNewGeneration(const v1::Run& newest, bool news, bool forced, bool solicited) {
  // The study was not looked at because nobody had asked for it.
  if ((solicited && IsStale(newest)) || LacksRegion(newest)) return true;
  switch (newest.state()) {
    case v1::RUN_STATE_QUEUED:
      return false;  // it will see the news
    case v1::RUN_STATE_FAILED:
    case v1::RUN_STATE_CANCELLED:
      return true;
    default:  // RUNNING, DONE and QUARANTINED stand for the input that they had
      return news || forced;
  }
}

// Deadlines that the study's submissions brought, 0 for none; withdrawn ones, too: what they set stays.
absl::StatusOr<std::set<std::int64_t>> BroughtDeadlines(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(Statement query,
                      database.Query("SELECT submission_id FROM submissions WHERE tenant = ?1 AND "
                                     "study_uid = ?2 AND acknowledged = 1",
                                     kTenant, study_uid));
  std::vector<std::string> ids;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) break;
    ids.push_back(query.Text(0));
  }
  std::set<std::int64_t> deadlines;
  for (const std::string& id : ids) {
    TS_ASSIGN_OR_RETURN(const Submission submission, ReadSubmission(database, id));
    deadlines.insert(FromTimestamp(submission.header.deadline()));
  }
  return deadlines;
}

// The deadline of a run that is `old_us` (0: none) once a submission brings `new_us`: the nearer one. One
// that no submission brought is what UpdateStudy said, and stands.
absl::StatusOr<std::int64_t> MergeDeadline(Database& database, std::string_view study_uid,
                                           std::int64_t old_us, std::int64_t new_us) {
  if (old_us == 0) return new_us;
  if (new_us == 0 || new_us >= old_us) return old_us;
  TS_ASSIGN_OR_RETURN(const std::set<std::int64_t> brought, BroughtDeadlines(database, study_uid));
  return brought.contains(old_us) ? new_us : old_us;
}

}  // namespace

absl::StatusOr<v1::SubmissionReceipt> SqliteStore::Acknowledge(const Acknowledgement& acknowledgement) {
  const std::scoped_lock lock(mutex_);
  v1::SubmissionReceipt receipt;
  TS_RETURN_IF_ERROR(database_->Transact(
      [&]() -> absl::Status { return AcknowledgeInTransaction(acknowledgement, receipt); }));
  return receipt;
}

absl::Status SqliteStore::AcknowledgeInTransaction(const Acknowledgement& acknowledgement,
                                                   v1::SubmissionReceipt& receipt) {
  TS_ASSIGN_OR_RETURN(const Submission submission, ReadSubmission(*database_, acknowledgement.submission_id));
  if (submission.acknowledged) {
    receipt = submission.receipt;
    return absl::OkStatus();
  }
  const std::string& study_uid = acknowledgement.study.study_uid;
  if (study_uid.empty()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "STUDY_UID_MISSING", "", "a study needs a UID");
  }
  const std::int64_t now = now_us_();
  TS_ASSIGN_OR_RETURN(const std::optional<StoredStudy> before, FindStudy(*database_, study_uid));
  // The row must be there before the instances that name it.
  if (!before)
    TS_RETURN_IF_ERROR(WriteStudy(*database_, MergeStudy({}, acknowledgement.study, submission, 0, now)));
  TS_ASSIGN_OR_RETURN(const std::uint32_t inserted, InsertInstances(*database_, acknowledgement));
  TS_ASSIGN_OR_RETURN(ExpectedInstances expected, ReadExpected(*database_, study_uid));
  const bool announces_more = AddExpected(submission.header, expected);
  const StoredStudy study = MergeStudy(before, acknowledgement.study, submission, inserted, now);
  TS_RETURN_IF_ERROR(WriteStudy(*database_, study));

  receipt = acknowledgement.receipt;
  receipt.set_submission_id(acknowledgement.submission_id);
  receipt.set_study_instance_uid(study_uid);
  receipt.set_instances_duplicate(receipt.instances_duplicate() +
                                  static_cast<std::uint32_t>(acknowledgement.instances.size()) - inserted);
  const bool news = inserted > 0 || announces_more || acknowledgement.refusals_are_news;
  TS_RETURN_IF_ERROR(WantRuns(acknowledgement, submission, study, news, receipt));
  TS_RETURN_IF_ERROR(
      database_->Run("UPDATE runs SET priority = ?3 WHERE tenant = ?1 AND study_uid = ?2 AND priority < ?3",
                     kTenant, study_uid, study.priority));
  TS_RETURN_IF_ERROR(
      database_->Run("UPDATE submissions SET acknowledged = 1, study_uid = ?3, receipt = ?4, priority = ?5 "
                     "WHERE tenant = ?1 AND submission_id = ?2",
                     kTenant, acknowledgement.submission_id, study_uid, Blob{Serialise(receipt)},
                     std::max(Normal(acknowledgement.study.priority), Normal(submission.header.priority()))));
  return UpdateLines(study_uid);
}

absl::Status SqliteStore::WantRuns(const Acknowledgement& acknowledgement, const Submission& submission,
                                   const StoredStudy& study, bool news, v1::SubmissionReceipt& receipt) {
  std::map<ModelKey, RunRow> newest;
  TS_ASSIGN_OR_RETURN(std::vector<RunRow> rows, ReadRunsOfStudy(*database_, study.study_uid));
  for (RunRow& row : rows) {  // ascending generations: the last one stays
    ModelKey key(row.stored.model_digest, row.stored.recipe_digest);
    newest.insert_or_assign(std::move(key), std::move(row));
  }

  const bool forced = submission.header.force_rerun();
  const std::int64_t deadline = FromTimestamp(submission.header.deadline());
  receipt.clear_run_ids();
  std::set<ModelKey> seen;
  for (const WantedModel& model : acknowledgement.models) {
    const ModelKey key(model.model_digest, model.recipe_digest);
    if (!seen.insert(key).second) continue;
    TS_RETURN_IF_ERROR(database_->Run(
        "INSERT INTO wants (tenant, submission_id, model_digest, recipe_digest, study_uid, solicited) VALUES "
        "(?1, ?2, ?3, ?4, ?5, ?6)",
        kTenant, acknowledgement.submission_id, model.model_digest, model.recipe_digest, study.study_uid,
        model.solicited));
    const auto found = newest.find(key);
    RunRow row;
    if (found == newest.end() ||
        NeedsNewGeneration(found->second.stored.run, news, forced, model.solicited)) {
      const std::uint32_t generation = found == newest.end() ? 1 : found->second.stored.generation + 1;
      TS_ASSIGN_OR_RETURN(row, NewGeneration(study, model, generation, forced));
    } else {
      row = found->second;
      row.forced = row.forced || forced;
      if (news && row.stored.run.state() == v1::RUN_STATE_QUEUED) row.stored.input_digest.clear();
      if (row.stored.stage != v1::ACTIVATION_STAGE_ACTIVE) row.stored.stage = model.stage;
    }
    if (!IsFinal(row.stored.run.state())) {
      TS_ASSIGN_OR_RETURN(row.stored.deadline_us,
                          MergeDeadline(*database_, study.study_uid, row.stored.deadline_us, deadline));
    }
    TS_RETURN_IF_ERROR(WriteRun(*database_, row));
    receipt.add_run_ids(row.stored.run.run_id());
  }
  if (!news) return absl::OkStatus();

  // Other submissions' runs see the news too.
  TS_ASSIGN_OR_RETURN(const std::set<ModelKey> wanted, WantedKeys(*database_, study.study_uid));
  for (auto& [key, row] : newest) {
    if (seen.contains(key) || !wanted.contains(key)) continue;
    if (row.stored.run.state() == v1::RUN_STATE_QUEUED) {
      row.stored.input_digest.clear();
      TS_RETURN_IF_ERROR(WriteRun(*database_, row));
      continue;
    }
    WantedModel model{.name = row.stored.run.model(),
                      .version = row.stored.run.version(),
                      .model_digest = key.first,
                      .recipe_digest = key.second,
                      .stage = row.stored.stage};
    // What the version may do now, not when the run was asked for.
    TS_ASSIGN_OR_RETURN(const auto activation, FindActivation(*database_, model.name, model.version));
    if (activation) model.stage = activation->stage();
    if (model.stage == v1::ACTIVATION_STAGE_RETIRED) continue;
    TS_ASSIGN_OR_RETURN(RunRow next, NewGeneration(study, model, row.stored.generation + 1, false));
    next.stored.deadline_us = row.stored.deadline_us;
    TS_RETURN_IF_ERROR(WriteRun(*database_, next));
  }
  return absl::OkStatus();
}

absl::StatusOr<RunRow> SqliteStore::NewGeneration(const StoredStudy& study, const WantedModel& model,
                                                  std::uint32_t generation, bool forced) {
  RunRow row;
  row.stored.run.set_run_id("r" + RandomHex(16));
  row.stored.run.set_model(model.name);
  row.stored.run.set_version(model.version);
  row.stored.run.set_state(v1::RUN_STATE_QUEUED);
  row.stored.study_uid = study.study_uid;
  row.stored.model_digest = model.model_digest;
  row.stored.recipe_digest = model.recipe_digest;
  row.stored.generation = generation;
  row.stored.priority = study.priority;
  row.stored.stage = model.stage;
  row.forced = forced;
  row.created_us = now_us_();
  TS_RETURN_IF_ERROR(InsertRun(*database_, row));
  return row;
}

}  // namespace tomoserve::store
