#include "store/sqlite/schema.h"

#include <iterator>

#include "absl/strings/str_cat.h"
#include "store/files.h"

namespace tomoserve::store {
namespace {

// Columns named *_us are microseconds since the Unix epoch; enums are the numbers of the v1 messages.
constexpr const char* kMigrations[] = {
    // 1
    R"sql(
CREATE TABLE store (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch TEXT NOT NULL              -- random; names this database's change feed
) STRICT;

CREATE TABLE studies (
  tenant TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  ref BLOB NOT NULL,               -- v1.StudyRef: the only place of patient data besides headers and entries
  notices BLOB NOT NULL,           -- v1.Study with notices only
  state INTEGER NOT NULL,
  priority INTEGER NOT NULL,       -- the highest of its living submissions
  role INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  last_instance_us INTEGER NOT NULL,
  settle_seconds INTEGER NOT NULL,
  PRIMARY KEY (tenant, study_uid)
) STRICT;
CREATE INDEX studies_by_state ON studies (tenant, state);

CREATE TABLE study_orders (
  tenant TEXT NOT NULL,
  accession_number TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  PRIMARY KEY (tenant, accession_number, study_uid),
  FOREIGN KEY (tenant, study_uid) REFERENCES studies (tenant, study_uid) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX study_orders_by_study ON study_orders (tenant, study_uid);

CREATE TABLE submissions (
  tenant TEXT NOT NULL,
  submission_id TEXT NOT NULL,
  idempotency_key TEXT,            -- NULL: none, or it has expired
  header_digest TEXT NOT NULL,
  header BLOB NOT NULL,            -- v1.SubmissionHeader
  priority INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL DEFAULT 0,
  cancelled INTEGER NOT NULL DEFAULT 0,
  study_uid TEXT,                  -- once acknowledged
  receipt BLOB,                    -- v1.SubmissionReceipt, once acknowledged
  created_us INTEGER NOT NULL,
  touched_us INTEGER NOT NULL,     -- last time that the upload was begun or resumed
  PRIMARY KEY (tenant, submission_id),
  FOREIGN KEY (tenant, study_uid) REFERENCES studies (tenant, study_uid)
) STRICT;
CREATE UNIQUE INDEX submissions_by_key ON submissions (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX submissions_by_study ON submissions (tenant, study_uid);
CREATE INDEX uploads_by_age ON submissions (tenant, touched_us) WHERE acknowledged = 0;

CREATE TABLE instances (
  tenant TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  sop_uid TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  submission_id TEXT NOT NULL,     -- whose spool file holds it
  offset INTEGER NOT NULL,
  length INTEGER NOT NULL,
  header BLOB NOT NULL,            -- ipc.v1.InstanceHeader
  PRIMARY KEY (tenant, study_uid, sop_uid),
  FOREIGN KEY (tenant, study_uid) REFERENCES studies (tenant, study_uid),
  FOREIGN KEY (tenant, submission_id) REFERENCES submissions (tenant, submission_id)
) STRICT;
CREATE INDEX instances_by_submission ON instances (tenant, submission_id);

CREATE TABLE wants (               -- submission x model: who wants what
  tenant TEXT NOT NULL,
  submission_id TEXT NOT NULL,
  model_digest TEXT NOT NULL,
  recipe_digest TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  PRIMARY KEY (tenant, submission_id, model_digest, recipe_digest),
  FOREIGN KEY (tenant, submission_id) REFERENCES submissions (tenant, submission_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX wants_by_study ON wants (tenant, study_uid, model_digest, recipe_digest);

CREATE TABLE runs (
  tenant TEXT NOT NULL,
  run_id TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  model TEXT NOT NULL,
  version TEXT NOT NULL,
  model_digest TEXT NOT NULL,
  recipe_digest TEXT NOT NULL,
  input_digest TEXT NOT NULL,      -- empty until the input is complete
  generation INTEGER NOT NULL,
  state INTEGER NOT NULL,
  strikes INTEGER NOT NULL DEFAULT 0,
  suspect INTEGER NOT NULL DEFAULT 0,
  priority INTEGER NOT NULL,
  deadline_us INTEGER NOT NULL,    -- 0: none
  stage INTEGER NOT NULL,
  forced INTEGER NOT NULL,         -- never takes an earlier result over
  created_us INTEGER NOT NULL,
  finished_us INTEGER NOT NULL DEFAULT 0,
  result BLOB NOT NULL DEFAULT x'',-- v1.Run without the fields that are columns
  PRIMARY KEY (tenant, run_id),
  UNIQUE (tenant, study_uid, model_digest, recipe_digest, generation),
  FOREIGN KEY (tenant, study_uid) REFERENCES studies (tenant, study_uid)
) STRICT;
CREATE INDEX runs_open ON runs (tenant, state) WHERE state IN (1, 2);

CREATE TABLE result_files (
  tenant TEXT NOT NULL,
  run_id TEXT NOT NULL,
  file TEXT NOT NULL,              -- name in results/; runs that took a result over share it
  stored_sha256 TEXT NOT NULL,     -- of the compressed bytes
  raw_bytes INTEGER NOT NULL,
  raw_sha256 TEXT NOT NULL,
  label_map BLOB NOT NULL,         -- v1.LabelMapInfo
  PRIMARY KEY (tenant, run_id),
  FOREIGN KEY (tenant, run_id) REFERENCES runs (tenant, run_id)
) STRICT;

CREATE TABLE changes (             -- the feed, and by it the worklist as of any position
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  tag INTEGER NOT NULL,            -- random: a cursor of a feed that went another way does not fit
  tenant TEXT NOT NULL,
  study_uid TEXT NOT NULL,
  run_id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  gone INTEGER NOT NULL,           -- the line has left the worklist
  replaced_by INTEGER,             -- position of the run's next change
  rank INTEGER NOT NULL,           -- findings::Urgency
  time_us INTEGER NOT NULL,
  entry BLOB NOT NULL              -- v1.FlagEntry after the change
) STRICT;
CREATE INDEX changes_by_run ON changes (tenant, run_id, position);
CREATE INDEX changes_by_urgency ON changes (tenant, rank, time_us, run_id);
CREATE INDEX changes_by_study ON changes (tenant, study_uid);

CREATE TABLE activations (         -- history; the last row of a version counts
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  record BLOB NOT NULL             -- v1.ActivationRecord
) STRICT;
CREATE INDEX activations_by_version ON activations (tenant, name, version, id);
)sql",
    // 2: a run that is the same as an earlier one has its negative rowid as generation.
    R"sql(
ALTER TABLE wants ADD COLUMN solicited INTEGER NOT NULL DEFAULT 1;  -- asked for in so many words
ALTER TABLE runs ADD COLUMN same_as TEXT;                           -- run id of the earlier one; NULL: none
)sql",
};

}  // namespace

absl::Status Migrate(Database& database) {
  constexpr std::int64_t kNewest = std::size(kMigrations);
  std::int64_t version = 0;
  {
    TS_ASSIGN_OR_RETURN(Statement query, database.Query("PRAGMA user_version"));
    TS_ASSIGN_OR_RETURN(const bool row, query.Step());
    if (row) version = query.Int(0);
  }
  if (version < 0 || version > kNewest) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "DATABASE_NEWER", std::to_string(version),
                       "a newer version of the server has written this database");
  }
  for (; version < kNewest; ++version) {
    const absl::Status committed = database.Transact([&]() -> absl::Status {
      TS_RETURN_IF_ERROR(database.Script(kMigrations[version]));
      if (version == 0) {
        TS_RETURN_IF_ERROR(database.Run("INSERT INTO store (one, epoch) VALUES (1, ?1)", RandomHex(16)));
      }
      return database.Script(absl::StrCat("PRAGMA user_version = ", version + 1));
    });
    if (!committed.ok()) return committed;
  }
  return absl::OkStatus();
}

absl::Status CheckIntegrity(Database& database) {
  TS_ASSIGN_OR_RETURN(Statement check, database.Query("PRAGMA quick_check(1)"));
  TS_ASSIGN_OR_RETURN(const bool row, check.Step());
  if (row && check.Text(0) == "ok") return absl::OkStatus();
  return base::Error(absl::StatusCode::kDataLoss, "DATABASE_CORRUPT", "", "the database is damaged");
}

}  // namespace tomoserve::store
