#include "store/sqlite/rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::store {
namespace {

constexpr char kSubmissionSelect[] =
    "SELECT submission_id, idempotency_key, header_digest, header, acknowledged, cancelled, study_uid, "
    "receipt, "
    "created_us FROM submissions WHERE tenant = ?1 ";

constexpr char kStudySelect[] =
    "SELECT study_uid, ref, state, notices, priority, role, received_us, last_instance_us, settle_seconds, "
    "(SELECT COUNT(*) FROM instances i WHERE i.tenant = s.tenant AND i.study_uid = s.study_uid) "
    "FROM studies s WHERE tenant = ?1 ";

constexpr char kRunSelect[] =
    "SELECT r.run_id, r.study_uid, r.model, r.version, r.model_digest, r.recipe_digest, r.input_digest, "
    "r.generation, r.state, r.strikes, r.suspect, r.priority, r.deadline_us, r.stage, r.forced, "
    "r.created_us, "
    "r.finished_us, r.result, s.role, r.same_as, "
    "EXISTS (SELECT 1 FROM wants w WHERE w.tenant = r.tenant AND w.study_uid = r.study_uid AND "
    "w.model_digest = r.model_digest AND w.recipe_digest = r.recipe_digest AND w.solicited = 1) FROM runs r "
    "JOIN studies s ON s.tenant = r.tenant AND s.study_uid = r.study_uid WHERE r.tenant = ?1 ";

absl::Status Unknown(std::string_view reason, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kNotFound, reason, value, text);
}

absl::StatusOr<std::optional<Submission>> OneSubmission(Statement statement) {
  TS_ASSIGN_OR_RETURN(const bool row, statement.Step());
  if (!row) return std::nullopt;
  Submission submission;
  submission.submission_id = statement.Text(0);
  submission.idempotency_key = statement.Text(1);
  submission.header_digest = statement.Text(2);
  TS_RETURN_IF_ERROR(statement.Message(3, submission.header));
  submission.acknowledged = statement.Bool(4);
  submission.cancelled = statement.Bool(5);
  submission.study_uid = statement.Text(6);
  if (!statement.IsNull(7)) TS_RETURN_IF_ERROR(statement.Message(7, submission.receipt));
  submission.created_us = statement.Int(8);
  return submission;
}

absl::StatusOr<std::vector<StoredStudy>> AllStudies(Statement statement) {
  std::vector<StoredStudy> studies;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, statement.Step());
    if (!row) return studies;
    StoredStudy& study = studies.emplace_back();
    study.study_uid = statement.Text(0);
    TS_RETURN_IF_ERROR(statement.Message(1, study.ref));
    study.state = statement.EnumOf<v1::StudyState>(2);
    v1::Study notices;
    TS_RETURN_IF_ERROR(statement.Message(3, notices));
    study.notices.assign(notices.notices().begin(), notices.notices().end());
    study.priority = statement.EnumOf<v1::Priority>(4);
    study.role = statement.EnumOf<v1::StudyRole>(5);
    study.received_us = statement.Int(6);
    study.last_instance_us = statement.Int(7);
    study.settle_seconds = statement.Uint32(8);
    study.instances = statement.Uint32(9);
  }
}

absl::StatusOr<std::vector<RunRow>> AllRuns(Statement statement) {
  std::vector<RunRow> rows;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool more, statement.Step());
    if (!more) return rows;
    RunRow& row = rows.emplace_back();
    StoredRun& stored = row.stored;
    TS_RETURN_IF_ERROR(statement.Message(17, stored.run));
    stored.run.set_run_id(statement.Text(0));
    stored.study_uid = statement.Text(1);
    stored.run.set_model(statement.Text(2));
    stored.run.set_version(statement.Text(3));
    stored.model_digest = statement.Text(4);
    stored.recipe_digest = statement.Text(5);
    stored.input_digest = statement.Text(6);
    stored.same_as = statement.Text(19);
    stored.generation = stored.same_as.empty() ? statement.Uint32(7) : stored.run.provenance().generation();
    stored.run.set_state(statement.EnumOf<v1::RunState>(8));
    stored.strikes = statement.Uint32(9);
    stored.suspect = statement.Bool(10);
    stored.priority = statement.EnumOf<v1::Priority>(11);
    stored.deadline_us = statement.Int(12);
    stored.stage = statement.EnumOf<v1::ActivationStage>(13);
    row.forced = statement.Bool(14);
    row.created_us = statement.Int(15);
    row.finished_us = statement.Int(16);
    *stored.run.mutable_created_at() = ToTimestamp(row.created_us);
    if (IsFinal(stored.run.state())) *stored.run.mutable_finished_at() = ToTimestamp(row.finished_us);
    stored.listed = stored.stage == v1::ACTIVATION_STAGE_ACTIVE &&
                    statement.EnumOf<v1::StudyRole>(18) != v1::STUDY_ROLE_PRIOR;
    stored.solicited = statement.Bool(20);
  }
}

// A run's message without what the columns hold.
std::string ResultBytes(const v1::Run& run) {
  v1::Run result = run;
  result.clear_run_id();
  result.clear_model();
  result.clear_version();
  result.clear_state();
  result.clear_created_at();
  result.clear_finished_at();
  result.clear_progress();
  return Serialise(result);
}

}  // namespace

bool IsFinal(v1::RunState state) { return state != v1::RUN_STATE_QUEUED && state != v1::RUN_STATE_RUNNING; }

google::protobuf::Timestamp ToTimestamp(std::int64_t us) {
  google::protobuf::Timestamp timestamp;
  timestamp.set_seconds(us / 1000000);
  timestamp.set_nanos(static_cast<std::int32_t>(us % 1000000 * 1000));
  return timestamp;
}

std::int64_t FromTimestamp(const google::protobuf::Timestamp& timestamp) {
  constexpr std::int64_t kYear9999 = 253402300799;
  if (timestamp.seconds() < 0 || timestamp.seconds() > kYear9999) return 0;
  return timestamp.seconds() * 1000000 + timestamp.nanos() / 1000;
}

v1::Priority Normal(v1::Priority priority) {
  return priority == v1::PRIORITY_URGENT || priority == v1::PRIORITY_STAT ? priority : v1::PRIORITY_ROUTINE;
}

absl::StatusOr<std::optional<Submission>> FindSubmission(Database& database, std::string_view submission_id) {
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query(absl::StrCat(kSubmissionSelect, "AND submission_id = ?2"), kTenant, submission_id));
  return OneSubmission(std::move(query));
}

absl::StatusOr<std::optional<Submission>> FindSubmissionByKey(Database& database, std::string_view key) {
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query(absl::StrCat(kSubmissionSelect, "AND idempotency_key = ?2"), kTenant, key));
  return OneSubmission(std::move(query));
}

absl::StatusOr<std::optional<StoredStudy>> FindStudy(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(Statement query,
                      database.Query(absl::StrCat(kStudySelect, "AND study_uid = ?2"), kTenant, study_uid));
  TS_ASSIGN_OR_RETURN(std::vector<StoredStudy> studies, AllStudies(std::move(query)));
  if (studies.empty()) return std::nullopt;
  return std::move(studies.front());
}

absl::StatusOr<Submission> ReadSubmission(Database& database, std::string_view submission_id) {
  TS_ASSIGN_OR_RETURN(std::optional<Submission> submission, FindSubmission(database, submission_id));
  if (submission) return *std::move(submission);
  return Unknown("UNKNOWN_SUBMISSION", submission_id, "no submission has this id");
}

absl::StatusOr<StoredStudy> ReadStudy(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(std::optional<StoredStudy> study, FindStudy(database, study_uid));
  if (study) return *std::move(study);
  return Unknown("UNKNOWN_STUDY", study_uid, "no study has this UID");
}

absl::StatusOr<RunRow> ReadRun(Database& database, std::string_view run_id) {
  TS_ASSIGN_OR_RETURN(Statement query,
                      database.Query(absl::StrCat(kRunSelect, "AND r.run_id = ?2"), kTenant, run_id));
  TS_ASSIGN_OR_RETURN(std::vector<RunRow> rows, AllRuns(std::move(query)));
  if (!rows.empty()) return std::move(rows.front());
  return Unknown("UNKNOWN_RUN", run_id, "no run has this id");
}

absl::StatusOr<std::vector<StoredStudy>> ReadOpenStudies(Database& database) {
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query(absl::StrCat(kStudySelect, "AND state IN (?2, ?3, ?4) ORDER BY received_us"), kTenant,
                     v1::STUDY_STATE_RECEIVING, v1::STUDY_STATE_SETTLING, v1::STUDY_STATE_REOPENED));
  return AllStudies(std::move(query));
}

bool AddExpected(const v1::SubmissionHeader& header, ExpectedInstances& expected) {
  bool more = false;
  for (const v1::ExpectedSeries& series : header.expected_series()) {
    std::uint32_t& instances = expected[series.series_instance_uid()];
    more = more || series.instances() > instances;
    instances = std::max(instances, series.instances());
  }
  return more;
}

absl::StatusOr<ExpectedInstances> ReadExpected(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query("SELECT header FROM submissions WHERE tenant = ?1 AND study_uid = ?2 AND "
                     "acknowledged = 1",
                     kTenant, study_uid));
  ExpectedInstances expected;
  while (true) {
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (!row) return expected;
    v1::SubmissionHeader header;
    TS_RETURN_IF_ERROR(query.Message(0, header));
    AddExpected(header, expected);
  }
}

absl::StatusOr<std::vector<RunRow>> ReadRunsOfStudy(Database& database, std::string_view study_uid) {
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query(absl::StrCat(kRunSelect,
                                  "AND r.study_uid = ?2 AND r.same_as IS NULL ORDER BY r.model, r.version, "
                                  "r.model_digest, "
                                  "r.recipe_digest, r.generation"),
                     kTenant, study_uid));
  return AllRuns(std::move(query));
}

absl::StatusOr<std::vector<RunRow>> ReadOpenRuns(Database& database) {
  // The states stand as numbers so that the partial index is used.
  static_assert(v1::RUN_STATE_QUEUED == 1 && v1::RUN_STATE_RUNNING == 2);
  TS_ASSIGN_OR_RETURN(
      Statement query,
      database.Query(absl::StrCat(kRunSelect,
                                  "AND r.state IN (1, 2) ORDER BY r.priority DESC, r.deadline_us = 0, "
                                  "r.deadline_us, r.created_us, r.run_id"),
                     kTenant));
  return AllRuns(std::move(query));
}

absl::Status WriteRun(Database& database, const RunRow& row) {
  const StoredRun& stored = row.stored;
  return database.Run(
      "UPDATE runs SET state = ?3, input_digest = ?4, strikes = ?5, suspect = ?6, priority = ?7, deadline_us "
      "= ?8, "
      "stage = ?9, forced = ?10, finished_us = ?11, result = ?12 WHERE tenant = ?1 AND run_id = ?2",
      kTenant, stored.run.run_id(), stored.run.state(), stored.input_digest, stored.strikes, stored.suspect,
      stored.priority, stored.deadline_us, stored.stage, row.forced, row.finished_us,
      Blob{ResultBytes(stored.run)});
}

absl::Status InsertRun(Database& database, const RunRow& row) {
  const StoredRun& stored = row.stored;
  return database.Run(
      "INSERT INTO runs (tenant, run_id, study_uid, model, version, model_digest, recipe_digest, "
      "input_digest, "
      "generation, state, priority, deadline_us, stage, forced, created_us) "
      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
      kTenant, stored.run.run_id(), stored.study_uid, stored.run.model(), stored.run.version(),
      stored.model_digest, stored.recipe_digest, stored.input_digest, stored.generation, stored.run.state(),
      stored.priority, stored.deadline_us, stored.stage, row.forced, row.created_us);
}

absl::Status WriteStudy(Database& database, const StoredStudy& study) {
  v1::Study notices;
  for (const v1::Reason& notice : study.notices) *notices.add_notices() = notice;
  TS_RETURN_IF_ERROR(database.Run(
      "INSERT INTO studies (tenant, study_uid, ref, notices, state, priority, role, received_us, "
      "last_instance_us, "
      "settle_seconds) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) "
      "ON CONFLICT (tenant, study_uid) DO UPDATE SET ref = excluded.ref, notices = excluded.notices, "
      "state = excluded.state, priority = excluded.priority, role = excluded.role, "
      "received_us = excluded.received_us, last_instance_us = excluded.last_instance_us, "
      "settle_seconds = excluded.settle_seconds",
      kTenant, study.study_uid, Blob{Serialise(study.ref)}, Blob{Serialise(notices)}, study.state,
      study.priority, study.role, study.received_us, study.last_instance_us, study.settle_seconds));
  for (const v1::Order& order : study.ref.orders()) {
    if (order.accession_number().empty()) continue;
    TS_RETURN_IF_ERROR(database.Run(
        "INSERT OR IGNORE INTO study_orders (tenant, accession_number, study_uid) VALUES (?1, ?2, ?3)",
        kTenant, order.accession_number(), study.study_uid));
  }
  return absl::OkStatus();
}

bool SameLine(const RunRow& a, const RunRow& b) {
  return a.stored.model_digest == b.stored.model_digest && a.stored.recipe_digest == b.stored.recipe_digest;
}

}  // namespace tomoserve::store
