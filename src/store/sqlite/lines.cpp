#include <algorithm>
#include <optional>

#include "store/files.h"
#include "store/sqlite/sqlite_store.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::store {
namespace {

v1::FlagEntry EntryOf(const v1::StudyRef& ref, const RunRow& row) {
  const v1::Run& run = row.stored.run;
  v1::FlagEntry entry;
  *entry.mutable_study() = ref;
  entry.set_run_id(run.run_id());
  entry.set_model(run.model());
  entry.set_version(run.version());
  entry.set_run_state(run.state());
  if (run.has_flag()) *entry.mutable_flag() = run.flag();
  entry.set_findings(static_cast<std::uint32_t>(run.findings_size()));
  const auto highest = std::max_element(
      run.findings().begin(), run.findings().end(),
      [](const v1::Finding& left, const v1::Finding& right) { return left.score() < right.score(); });
  if (highest != run.findings().end()) entry.set_highest_score(highest->score());
  entry.set_priority(row.stored.priority);
  if (run.has_failure()) *entry.mutable_failure() = run.failure();
  *entry.mutable_at() = ToTimestamp(row.finished_us);
  return entry;
}

// Whether a newer generation has taken this one's place. An answer takes the place of everything before it; a
// newer failure only that of an older failure, so that it never hides a flag.
bool Superseded(const RunRow& row, const std::vector<RunRow>& rows) {
  return std::any_of(rows.begin(), rows.end(), [&](const RunRow& other) {
    if (!SameLine(row, other) || other.stored.generation <= row.stored.generation) return false;
    const v1::RunState newer = other.stored.run.state();
    if (newer == v1::RUN_STATE_DONE) return true;
    return (newer == v1::RUN_STATE_FAILED || newer == v1::RUN_STATE_QUARANTINED) &&
           row.stored.run.state() != v1::RUN_STATE_DONE;
  });
}

bool HasLine(const RunRow& row, const std::vector<RunRow>& rows) {
  const v1::RunState state = row.stored.run.state();
  return row.stored.listed && IsFinal(state) && state != v1::RUN_STATE_CANCELLED && !Superseded(row, rows);
}

struct LastChange {
  bool gone = false;
  std::string entry;
};

absl::StatusOr<std::optional<LastChange>> FindLastChange(Database& database, std::string_view run_id) {
  TS_ASSIGN_OR_RETURN(Statement query, database.Query("SELECT gone, entry FROM changes WHERE tenant = ?1 AND "
                                                      "run_id = ?2 ORDER BY position DESC LIMIT 1",
                                                      kTenant, run_id));
  TS_ASSIGN_OR_RETURN(const bool row, query.Step());
  if (!row) return std::nullopt;
  return LastChange{.gone = query.Bool(0), .entry = query.Text(1)};
}

}  // namespace

absl::Status SqliteStore::UpdateLines(std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(const StoredStudy study, ReadStudy(*database_, study_uid));
  TS_ASSIGN_OR_RETURN(const std::vector<RunRow> rows, ReadRunsOfStudy(*database_, study_uid));
  // New lines first: a reader that stops in between sees one too many, never one too few.
  for (const bool lines : {true, false}) {
    for (const RunRow& row : rows) {
      if (HasLine(row, rows) != lines) continue;
      TS_ASSIGN_OR_RETURN(const std::optional<LastChange> last,
                          FindLastChange(*database_, row.stored.run.run_id()));
      const v1::FlagEntry entry = EntryOf(study.ref, row);
      if (!lines) {
        if (last && !last->gone) TS_RETURN_IF_ERROR(AppendChange(row, v1::CHANGE_KIND_SUPERSEDED, entry));
      } else if (!last) {
        TS_RETURN_IF_ERROR(AppendChange(row, v1::CHANGE_KIND_CREATED, entry));
      } else if (last->gone || last->entry != Serialise(entry)) {
        TS_RETURN_IF_ERROR(AppendChange(row, v1::CHANGE_KIND_UPDATED, entry));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::AppendChange(const RunRow& row, v1::ChangeKind kind, const v1::FlagEntry& entry) {
  const findings::UrgencyKey urgency =
      findings::Urgency(row.stored.priority, row.stored.run.state(), row.stored.run.flag(), row.finished_us);
  const auto tag = static_cast<std::int64_t>(std::stoull(RandomHex(8), nullptr, 16));
  TS_RETURN_IF_ERROR(
      database_->Run("INSERT INTO changes (tag, tenant, study_uid, run_id, kind, gone, rank, time_us, entry) "
                     "VALUES (?2, ?1, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                     kTenant, tag, row.stored.study_uid, row.stored.run.run_id(), kind,
                     kind == v1::CHANGE_KIND_SUPERSEDED || kind == v1::CHANGE_KIND_RETRACTED, urgency.rank,
                     urgency.time_us, Blob{Serialise(entry)}));
  return database_->Run(
      "UPDATE changes SET replaced_by = ?3 WHERE tenant = ?1 AND run_id = ?2 AND position < ?3 AND "
      "replaced_by IS NULL",
      kTenant, row.stored.run.run_id(), database_->LastRowId());
}

}  // namespace tomoserve::store
