// Durable submissions, studies, runs, results and the change feed: one interface, SQLite now, PostgreSQL later.
// Every method is one transaction; when it returns OK it is durable (WAL, synchronous=FULL). Thread-safe.
// Tenant: one column in every key, "default" until authentication exists.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/v1/dicom.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/model_service.pb.h"
#include "tomoserve/v1/study.pb.h"
#include "tomoserve/v1/worklist_service.pb.h"

namespace tomoserve::store {

// An upload before and after its acknowledgement.
struct Submission {
  std::string submission_id;
  std::string idempotency_key;  // empty: none
  std::string header_digest;    // SHA-256 of the serialised SubmissionHeader
  v1::SubmissionHeader header;
  bool acknowledged = false;
  bool cancelled = false;
  std::string study_uid;        // once acknowledged
  v1::SubmissionReceipt receipt;  // once acknowledged
  std::int64_t created_us = 0;
};

// An accepted instance of a study.
struct StoredInstance {
  std::string sop_uid;  // or derived
  std::string sha256;   // of the file
  std::string submission_id;  // whose spool file holds it
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  ipc::v1::InstanceHeader header;
};

// A study's row.
struct StoredStudy {
  std::string study_uid;
  v1::StudyRef ref;
  v1::StudyState state = v1::STUDY_STATE_UNSPECIFIED;
  std::vector<v1::Reason> notices;
  v1::Priority priority = v1::PRIORITY_ROUTINE;
  v1::StudyRole role = v1::STUDY_ROLE_CURRENT;
  std::int64_t received_us = 0;
  std::int64_t last_instance_us = 0;
  std::uint32_t settle_seconds = 0;  // for SETTLING
  std::uint32_t instances = 0;
};

// A run's row: the message plus what scheduling needs.
struct StoredRun {
  v1::Run run;
  std::string study_uid;
  std::string model_digest;
  std::string recipe_digest;
  std::string input_digest;  // empty until its input is complete
  std::uint32_t generation = 1;
  std::uint32_t strikes = 0;   // deaths while alone
  bool suspect = false;        // was in flight at a worker's death: next try is alone
  v1::Priority priority = v1::PRIORITY_ROUTINE;
  std::int64_t deadline_us = 0;  // 0: none
  v1::ActivationStage stage = v1::ACTIVATION_STAGE_ACTIVE;
  bool listed = true;  // false: SHADOW or a prior
};

// A model that a submission wants run.
struct WantedModel {
  std::string name;
  std::string version;
  std::string model_digest;
  std::string recipe_digest;
  v1::ActivationStage stage = v1::ACTIVATION_STAGE_ACTIVE;
};

// What an acknowledgement commits, all or nothing.
struct Acknowledgement {
  std::string submission_id;
  StoredStudy study;                       // merged into the row that may be there
  std::vector<StoredInstance> instances;   // new ones only
  std::vector<WantedModel> models;         // a run row each, unless the study has an open or equal one
  v1::SubmissionReceipt receipt;           // run_ids are filled in by the store
};

// Bytes of a result that are too big for a row lie in files beside the database, written and synced before the
// commit that names them.
struct ResultBlob {
  v1::LabelMapInfo label_map;
  std::string zstd;  // compressed payload
  std::uint64_t raw_bytes = 0;
  std::string raw_sha256;
};

struct FlagPage {
  std::vector<v1::FlagEntry> flags;
  std::string next_page_token;
  std::string cursor;
};

struct ChangePage {
  std::vector<v1::FlagChange> changes;
  std::string cursor;
};

class JobStore {
 public:
  virtual ~JobStore() = default;

  // --- Submissions
  // Makes a submission. With a key that lives: the existing one is returned if the header digest is equal
  // (`existing` true), else kAlreadyExists IDEMPOTENCY_KEY_REUSED.
  struct Begun {
    Submission submission;
    bool existing = false;
  };
  virtual absl::StatusOr<Begun> BeginSubmission(const v1::SubmissionHeader& header) = 0;
  virtual absl::StatusOr<Submission> GetSubmission(std::string_view submission_id) = 0;
  // The durable commit behind a receipt. Returns the receipt with run ids.
  virtual absl::StatusOr<v1::SubmissionReceipt> Acknowledge(const Acknowledgement& acknowledgement) = 0;
  // Forgets unacknowledged submissions older than `before_us`; returns their ids so that the caller removes their
  // spool files.
  virtual absl::StatusOr<std::vector<std::string>> ForgetUploads(std::int64_t before_us) = 0;
  // Every submission id that is known (for cleaning the spool at start).
  virtual absl::StatusOr<std::vector<std::string>> SubmissionIds() = 0;

  // --- Studies
  virtual absl::StatusOr<StoredStudy> GetStudy(std::string_view study_uid) = 0;  // kNotFound UNKNOWN_STUDY
  virtual absl::StatusOr<std::vector<StoredInstance>> Instances(std::string_view study_uid) = 0;
  virtual absl::Status SetStudyState(std::string_view study_uid, v1::StudyState state) = 0;
  virtual absl::Status SetNotices(std::string_view study_uid, const std::vector<v1::Reason>& notices) = 0;
  // Studies in SETTLING or REOPENED/RECEIVING, for timers and restart.
  virtual absl::StatusOr<std::vector<StoredStudy>> OpenStudies() = 0;
  // Withdraws a submission's wish (empty id: all). Runs that nobody wants become CANCELLED; their ids return.
  virtual absl::StatusOr<std::vector<std::string>> CancelSubmission(std::string_view study_uid,
                                                                    std::string_view submission_id) = 0;

  // --- Runs
  virtual absl::StatusOr<std::vector<StoredRun>> RunsOfStudy(std::string_view study_uid) = 0;  // current generation
  virtual absl::StatusOr<StoredRun> GetRun(std::string_view run_id) = 0;  // kNotFound UNKNOWN_RUN
  // QUEUED and RUNNING runs, most urgent first.
  virtual absl::StatusOr<std::vector<StoredRun>> OpenRuns() = 0;
  // Sets the digest of a QUEUED run's input. If another DONE run of the study has the same (input, model, recipe)
  // digests and the submission did not force, its result is taken over and the run is DONE at once (true).
  virtual absl::StatusOr<bool> SetRunInput(std::string_view run_id, std::string_view input_digest) = 0;
  virtual absl::Status MarkRunning(std::string_view run_id) = 0;
  // Back to QUEUED after its worker died. `alone`: a strike. Quarantines at `max_strikes`: returns true then.
  virtual absl::StatusOr<bool> RecordDeath(std::string_view run_id, bool alone, std::uint32_t max_strikes) = 0;
  // RUNNING runs go back to QUEUED without blame (restart of the front, device gone).
  virtual absl::Status Requeue(std::string_view run_id) = 0;
  // The final commit: flag, findings, coverage, provenance, timings, blob, change feed. Once: a second call for a
  // final run is kFailedPrecondition RUN_FINAL.
  virtual absl::Status CommitResult(const v1::Run& run, const std::optional<ResultBlob>& blob) = 0;
  // FAILED with its reason. Same once-rule.
  virtual absl::Status CommitFailure(std::string_view run_id, const v1::Reason& reason) = 0;
  virtual absl::StatusOr<ResultBlob> GetLabelMap(std::string_view run_id) = 0;  // kNotFound NO_LABEL_MAP

  // --- Worklist
  virtual absl::StatusOr<FlagPage> ListFlags(const v1::ListFlagsRequest& request) = 0;
  // Changes after a cursor; kOutOfRange CURSOR_EXPIRED (value: the oldest cursor) after a restore.
  virtual absl::StatusOr<ChangePage> ListChanges(std::string_view cursor, std::uint32_t limit) = 0;

  // --- Models
  virtual absl::Status SetActivation(std::string_view name, std::string_view version,
                                     const v1::ActivationRecord& record) = 0;
  virtual absl::StatusOr<std::optional<v1::ActivationRecord>> GetActivation(std::string_view name,
                                                                            std::string_view version) = 0;
};

// `folder` holds tomoserve.db, its WAL, and results/. Locks the folder (DATA_IN_USE if another process has it),
// runs migrations, checks integrity (quick_check).
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteStore(const std::string& folder);

}  // namespace tomoserve::store
