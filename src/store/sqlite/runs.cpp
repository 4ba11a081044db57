#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/sqlite/sqlite_store.h"

namespace tomoserve::store {
namespace {

std::vector<StoredRun> Stored(std::vector<RunRow> rows) {
  std::vector<StoredRun> runs;
  runs.reserve(rows.size());
  for (RunRow& row : rows) runs.push_back(std::move(row.stored));
  return runs;
}

// When a run with these earlier generations may start, 0: now.
std::int64_t HeldUntil(const std::vector<RunRow>& earlier, const GenerationLimit& limit,
                       std::int64_t now_us) {
  std::vector<std::int64_t> recent;
  for (const RunRow& row : earlier) {
    if (!row.forced && row.created_us > now_us - limit.within_us) recent.push_back(row.created_us);
  }
  if (limit.generations == 0 || recent.size() < limit.generations) return 0;
  std::sort(recent.begin(), recent.end());
  return recent[recent.size() - limit.generations] + limit.within_us;
}

}  // namespace

absl::StatusOr<std::vector<StoredRun>> SqliteStore::RunsOfStudy(std::string_view study_uid) {
  const std::scoped_lock lock(mutex_);
  TS_RETURN_IF_ERROR(ReadStudy(*database_, study_uid).status());
  TS_ASSIGN_OR_RETURN(std::vector<RunRow> rows, ReadRunsOfStudy(*database_, study_uid));
  // The newest generation counts; one that was cancelled does not hide an earlier one.
  std::vector<RunRow> current;
  for (RunRow& row : rows) {
    if (current.empty() || !SameLine(current.back(), row)) {
      current.push_back(std::move(row));
    } else if (row.stored.run.state() != v1::RUN_STATE_CANCELLED ||
               current.back().stored.run.state() == v1::RUN_STATE_CANCELLED) {
      current.back() = std::move(row);
    }
  }
  return Stored(std::move(current));
}

absl::StatusOr<StoredRun> SqliteStore::GetRun(std::string_view run_id) {
  const std::scoped_lock lock(mutex_);
  TS_ASSIGN_OR_RETURN(RunRow row, ReadRun(*database_, run_id));
  return std::move(row.stored);
}

absl::StatusOr<std::vector<StoredRun>> SqliteStore::OpenRuns() {
  const std::scoped_lock lock(mutex_);
  TS_ASSIGN_OR_RETURN(std::vector<RunRow> rows, ReadOpenRuns(*database_));
  return Stored(std::move(rows));
}

absl::StatusOr<RunRow> SqliteStore::ReadOpenRun(std::string_view run_id) {
  TS_ASSIGN_OR_RETURN(RunRow row, ReadRun(*database_, run_id));
  if (!IsFinal(row.stored.run.state())) return row;
  return base::Error(absl::StatusCode::kFailedPrecondition, "RUN_FINAL", run_id, "the run is final");
}

absl::StatusOr<InputDecision> SqliteStore::SetRunInput(std::string_view run_id, std::string_view input_digest,
                                                       const GenerationLimit& limit) {
  if (input_digest.empty()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "INPUT_DIGEST_MISSING", "",
                       "an input needs a digest");
  }
  const std::scoped_lock lock(mutex_);
  InputDecision decision;
  const absl::Status committed = database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run_id));
    if (row.stored.run.state() != v1::RUN_STATE_QUEUED) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "RUN_RUNNING", run_id,
                         "the run has started with the input that it had");
    }
    row.stored.input_digest = std::string(input_digest);
    if (row.forced) return WriteRun(*database_, row);
    TS_ASSIGN_OR_RETURN(std::vector<RunRow> rows, ReadRunsOfStudy(*database_, row.stored.study_uid));
    std::erase_if(rows, [&](const RunRow& other) {
      return !SameLine(other, row) || other.stored.generation >= row.stored.generation ||
             other.stored.run.state() == v1::RUN_STATE_CANCELLED;
    });
    const RunRow* earlier = nullptr;
    for (const RunRow& other : rows) {
      const v1::RunState state = other.stored.run.state();
      const bool before = &other == &rows.back();
      const bool final = state == v1::RUN_STATE_DONE || (before && state == v1::RUN_STATE_QUARANTINED);
      if (final && other.stored.input_digest == input_digest) earlier = &other;
    }
    if (earlier != nullptr) {
      decision.taken_over = true;
      if (earlier == &rows.back()) row.stored.same_as = earlier->stored.run.run_id();
      return TakeOver(std::move(row), *earlier);
    }
    decision.held_until_us = HeldUntil(rows, limit, now_us_());
    return decision.held_until_us != 0 ? absl::OkStatus() : WriteRun(*database_, row);
  });
  if (!committed.ok()) return committed;
  return decision;
}

absl::Status SqliteStore::TakeOver(RunRow row, const RunRow& earlier) {
  const std::string id = row.stored.run.run_id();
  row.stored.run = earlier.stored.run;
  row.stored.run.set_run_id(id);
  TS_RETURN_IF_ERROR(database_->Run(
      "INSERT INTO result_files (tenant, run_id, file, stored_sha256, raw_bytes, raw_sha256, label_map) "
      "SELECT tenant, ?3, file, stored_sha256, raw_bytes, raw_sha256, label_map FROM result_files "
      "WHERE tenant = ?1 AND run_id = ?2",
      kTenant, earlier.stored.run.run_id(), id));
  if (!row.stored.same_as.empty()) {
    TS_RETURN_IF_ERROR(
        database_->Run("UPDATE runs SET same_as = ?3, generation = -rowid WHERE tenant = ?1 AND run_id = ?2",
                       kTenant, id, row.stored.same_as));
  }
  const v1::RunState state = earlier.stored.run.state();
  return Finish(std::move(row), state);
}

absl::Status SqliteStore::MarkRunning(std::string_view run_id) {
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run_id));
    if (row.stored.input_digest.empty()) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "RUN_INPUT_MISSING", run_id,
                         "the run has no input, or new instances have changed it");
    }
    row.stored.run.set_state(v1::RUN_STATE_RUNNING);
    return WriteRun(*database_, row);
  });
}

absl::StatusOr<bool> SqliteStore::RecordDeath(std::string_view run_id, bool alone,
                                              std::uint32_t max_strikes) {
  const std::scoped_lock lock(mutex_);
  bool quarantined = false;
  const absl::Status committed = database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run_id));
    row.stored.suspect = true;
    if (alone) ++row.stored.strikes;
    if (alone && row.stored.strikes >= max_strikes) {
      quarantined = true;
      v1::Reason* failure = row.stored.run.mutable_failure();
      failure->set_code("QUARANTINED");
      failure->set_value(absl::StrCat(row.stored.strikes));
      failure->set_text("the worker died each time that it had this run alone");
      return Finish(std::move(row), v1::RUN_STATE_QUARANTINED);
    }
    row.stored.run.set_state(v1::RUN_STATE_QUEUED);
    return WriteRun(*database_, row);
  });
  if (!committed.ok()) return committed;
  return quarantined;
}

absl::Status SqliteStore::Requeue(std::string_view run_id) {
  const std::scoped_lock lock(mutex_);
  return database_->Transact([&]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(RunRow row, ReadOpenRun(run_id));
    row.stored.run.set_state(v1::RUN_STATE_QUEUED);
    return WriteRun(*database_, row);
  });
}

absl::Status SqliteStore::Finish(RunRow row, v1::RunState state) {
  row.stored.run.set_state(state);
  row.finished_us = now_us_();
  TS_RETURN_IF_ERROR(WriteRun(*database_, row));
  return UpdateLines(row.stored.study_uid);
}

}  // namespace tomoserve::store
