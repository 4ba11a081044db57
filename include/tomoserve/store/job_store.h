// Durable submissions, studies, runs, results and the change feed: one interface, SQLite now, PostgreSQL
// later. Every method is one transaction; when it returns OK it is durable (WAL, synchronous=FULL).
// Thread-safe. Tenant: one column in every key, "default" until authentication exists.
// Errors of every method, besides its own: kResourceExhausted DISK_FULL (nothing was committed; try again
// when there is room), kDataLoss DATABASE_CORRUPT, kInternal DATABASE_FAILED or DISK_FAILED.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
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
  std::string study_uid;          // once acknowledged
  v1::SubmissionReceipt receipt;  // once acknowledged
  std::int64_t created_us = 0;
};

// An accepted instance of a study.
struct StoredInstance {
  std::string sop_uid;        // or derived
  std::string sha256;         // of the file
  std::string submission_id;  // whose spool file holds it
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  ipc::v1::InstanceHeader header;
};

// Instances by Series Instance UID.
using ExpectedInstances = std::map<std::string, std::uint32_t>;

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
  std::uint32_t strikes = 0;  // deaths while alone
  bool suspect = false;       // was in flight at a worker's death: next try is alone
  v1::Priority priority = v1::PRIORITY_ROUTINE;
  std::int64_t deadline_us = 0;  // 0: none
  v1::ActivationStage stage = v1::ACTIVATION_STAGE_ACTIVE;
  bool listed = true;  // false: not ACTIVE when it was asked for, or a prior
  // A living submission asked for it in so many words (WantedModel::solicited).
  bool solicited = true;
  // Set where the input turned out to be that of this earlier generation: the row answers for its id with
  // that run's result, and is no generation of its own.
  std::string same_as;
};

// A model that a submission wants run.
struct WantedModel {
  std::string name;
  std::string version;
  std::string model_digest;
  std::string recipe_digest;
  v1::ActivationStage stage = v1::ACTIVATION_STAGE_ACTIVE;
  // The submitter named the model, forced a rerun, or said that the study is a prior: the study's age does
  // not matter. False: "every model that applies".
  bool solicited = true;
};

// How many generations of one run a study may have within a time; forced ones are not counted and not held.
struct GenerationLimit {
  std::uint32_t generations = 3;
  std::int64_t within_us = 3600ll * 1000000;
};

// What became of a QUEUED run whose input is known.
struct InputDecision {
  // DONE (or, where the earlier run was that, QUARANTINED) at once, with an earlier run's result.
  bool taken_over = false;
  // Not 0: nothing was changed, the study has had its generations for now; ask again then.
  std::int64_t held_until_us = 0;
};

// What an acknowledgement commits, all or nothing.
struct Acknowledgement {
  std::string submission_id;
  // Merged into the row that may be there. `state` is what this submission alone would make of it: COMPLETE
  // (a FINAL one), RECEIVING or SETTLING; UNSPECIFIED takes it from the header's completion.
  StoredStudy study;
  // New ones only; one that another submission brought meanwhile (same UID, same content) becomes a
  // duplicate.
  std::vector<StoredInstance> instances;
  std::vector<WantedModel> models;  // a run row each, unless the study has an open or equal one
  v1::SubmissionReceipt receipt;    // run_ids are filled in by the store
  // Instances that the receipt refuses may change what a run says: news, as new instances are.
  bool refusals_are_news = false;
};

// Bytes of a result that are too big for a row lie in files beside the database, written and synced before
// the commit that names them.
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
  // Makes a submission. With a key that lives (7 days): the existing one is returned if the header digest is
  // equal (`existing` true; it may be acknowledged already), else kAlreadyExists IDEMPOTENCY_KEY_REUSED.
  struct Begun {
    Submission submission;
    bool existing = false;
  };
  virtual absl::StatusOr<Begun> BeginSubmission(const v1::SubmissionHeader& header) = 0;
  // kNotFound UNKNOWN_SUBMISSION.
  virtual absl::StatusOr<Submission> GetSubmission(std::string_view submission_id) = 0;
  // The durable commit behind a receipt. Returns the receipt with submission id, Study UID and run ids; a
  // second call returns the first one's receipt and changes nothing. Runs: a wanted model has one newest
  // generation per (study, model digest, recipe digest). QUEUED: it is shared (news clear its input). DONE,
  // RUNNING or QUARANTINED: shared, unless there is news or the header says force_rerun; then a new
  // generation is QUEUED, which SetRunInput drops again where its input is the old one. FAILED, CANCELLED,
  // REGION_NOT_RUN, or STALE_STUDY where the model is solicited now: a new generation. News (new instances,
  // refusals_are_news, or a series of which more is announced than before) do the same for the runs that
  // other living submissions want. Priority and role of the study: the higher, and CURRENT before PRIOR;
  // lines of the worklist follow. Errors: UNKNOWN_SUBMISSION, kAlreadyExists INSTANCE_CONFLICT (value: the
  // UID; same UID, other content), kInvalidArgument STUDY_UID_MISSING.
  virtual absl::StatusOr<v1::SubmissionReceipt> Acknowledge(const Acknowledgement& acknowledgement) = 0;
  // Forgets unacknowledged submissions that were begun or resumed before `before_us`; returns their ids so
  // that the caller removes their spool files.
  virtual absl::StatusOr<std::vector<std::string>> ForgetUploads(std::int64_t before_us) = 0;
  // Forgets what nobody can resume: this submission, or with an empty id all, if without a key and
  // unacknowledged. Not while such an upload is open.
  virtual absl::Status ForgetKeyless(std::string_view submission_id) = 0;
  // Every submission id that is known (for cleaning the spool at start).
  virtual absl::StatusOr<std::vector<std::string>> SubmissionIds() = 0;

  // --- Studies
  virtual absl::StatusOr<StoredStudy> GetStudy(std::string_view study_uid) = 0;  // kNotFound UNKNOWN_STUDY
  // By SOP Instance UID. UNKNOWN_STUDY.
  virtual absl::StatusOr<std::vector<StoredInstance>> Instances(std::string_view study_uid) = 0;
  // How many instances a series is to have, by Series Instance UID: the most that an acknowledged submission
  // announces, whether it brought instances or not. UNKNOWN_STUDY.
  virtual absl::StatusOr<ExpectedInstances> Expected(std::string_view study_uid) = 0;
  // The refused instances of its acknowledged submissions, in order of submission. UNKNOWN_STUDY.
  virtual absl::StatusOr<std::vector<v1::InstanceStatus>> Refused(std::string_view study_uid) = 0;
  virtual absl::Status SetStudyState(std::string_view study_uid, v1::StudyState state) = 0;
  virtual absl::Status SetNotices(std::string_view study_uid, const std::vector<v1::Reason>& notices) = 0;
  // Priority (UNSPECIFIED: unchanged) and deadline (nothing: unchanged) of the study's submissions and runs,
  // and its lines of the worklist; a final run keeps its deadline. UNKNOWN_STUDY.
  virtual absl::Status SetUrgency(std::string_view study_uid, v1::Priority priority,
                                  std::optional<std::int64_t> deadline_us) = 0;
  // Studies in SETTLING or REOPENED/RECEIVING, for timers and restart.
  virtual absl::StatusOr<std::vector<StoredStudy>> OpenStudies() = 0;
  // Withdraws a submission's wish (empty id: all). Open runs that nobody wants become CANCELLED; their ids
  // return. UNKNOWN_STUDY, UNKNOWN_SUBMISSION.
  virtual absl::StatusOr<std::vector<std::string>> CancelSubmission(std::string_view study_uid,
                                                                    std::string_view submission_id) = 0;

  // --- Runs
  // Newest generation of each, by model and version; a cancelled one does not hide an earlier one, and what
  // is the same as an earlier one is not there. UNKNOWN_STUDY.
  virtual absl::StatusOr<std::vector<StoredRun>> RunsOfStudy(std::string_view study_uid) = 0;
  virtual absl::StatusOr<StoredRun> GetRun(std::string_view run_id) = 0;  // kNotFound UNKNOWN_RUN
  // QUEUED and RUNNING runs, most urgent first: priority, then deadline, then age.
  virtual absl::StatusOr<std::vector<StoredRun>> OpenRuns() = 0;
  // All methods that change a run: kNotFound UNKNOWN_RUN; kFailedPrecondition RUN_FINAL once it is DONE,
  // FAILED, CANCELLED or QUARANTINED. Sets the digest of a QUEUED run's input. Unless the submission forced:
  // If the generation before it is DONE or QUARANTINED with the same digests of input, model and recipe, this
  // one is none: it becomes the `same_as` of that one, and worklist and RunsOfStudy stay as they are. If only
  // an older DONE one has them, its result is taken over with its provenance. Otherwise, if `limit` is
  // reached, it is held. kFailedPrecondition RUN_RUNNING, kInvalidArgument INPUT_DIGEST_MISSING.
  virtual absl::StatusOr<InputDecision> SetRunInput(std::string_view run_id, std::string_view input_digest,
                                                    const GenerationLimit& limit = {}) = 0;
  // kFailedPrecondition RUN_INPUT_MISSING where no input is set, or new instances have cleared it: set it
  // again.
  virtual absl::Status MarkRunning(std::string_view run_id) = 0;
  // Back to QUEUED after its worker died, as a suspect. `alone`: a strike. At `max_strikes` it becomes
  // QUARANTINED with the reason QUARANTINED: returns true then.
  virtual absl::StatusOr<bool> RecordDeath(std::string_view run_id, bool alone,
                                           std::uint32_t max_strikes) = 0;
  // RUNNING runs go back to QUEUED without blame (restart of the front, device gone).
  virtual absl::Status Requeue(std::string_view run_id) = 0;
  // The final commit: flag, findings, coverage, provenance, timings, blob, change feed. Once: a second call
  // for a final run is RUN_FINAL. The run may still be QUEUED (NOT_APPLICABLE needs no device). Id, model,
  // version, state and times are the row's; label_map is the blob's. kInvalidArgument FLAG_MISSING, or
  // NO_FINDING_UNCOVERED for a NO_FINDING whose coverage is not COMPLETE.
  virtual absl::Status CommitResult(const v1::Run& run, const std::optional<ResultBlob>& blob) = 0;
  // FAILED with its reason. Same once-rule. kInvalidArgument REASON_MISSING.
  virtual absl::Status CommitFailure(std::string_view run_id, const v1::Reason& reason) = 0;
  // kNotFound NO_LABEL_MAP; kDataLoss RESULT_CORRUPT where the file is absent or not what was committed.
  virtual absl::StatusOr<ResultBlob> GetLabelMap(std::string_view run_id) = 0;

  // --- Worklist. A line is the final state of a listed run (DONE, FAILED, QUARANTINED) whose place no newer
  // generation has taken: an answer takes every older line's place, a newer failure only an older failure's.
  // Lines in the order of findings::Urgency, as they were at the first page: later changes do not move,
  // double or hide a line of the next pages. Page size: 0 means 100, at most 1000. The filters must stay the
  // same. kInvalidArgument PAGE_TOKEN_INVALID; kOutOfRange PAGE_TOKEN_EXPIRED after a restore.
  virtual absl::StatusOr<FlagPage> ListFlags(const v1::ListFlagsRequest& request) = 0;
  // Changes after a cursor (empty: from the oldest) in commit order, as many as for pages. kInvalidArgument
  // CURSOR_INVALID; kOutOfRange CURSOR_EXPIRED (value: the oldest cursor) after a restore.
  virtual absl::StatusOr<ChangePage> ListChanges(std::string_view cursor, std::uint32_t limit) = 0;

  // --- Models
  // Adds a row to the version's history, unless stage and author are the last row's. kInvalidArgument
  // ACTIVATION_INVALID.
  virtual absl::Status SetActivation(std::string_view name, std::string_view version,
                                     const v1::ActivationRecord& record) = 0;
  virtual absl::StatusOr<std::optional<v1::ActivationRecord>> GetActivation(std::string_view name,
                                                                            std::string_view version) = 0;
  // Its rows, oldest first.
  virtual absl::StatusOr<std::vector<v1::ActivationRecord>> ListActivations(std::string_view name,
                                                                            std::string_view version) = 0;
};

struct SqliteOptions {
  // Microseconds since the Unix epoch; absent: base::NowUs. Called under the store's mutex.
  std::function<std::int64_t()> now_us;
};

// `folder` holds tomoserve.db, its WAL, lock, and results/; it is made where absent. Locks the folder, checks
// integrity (quick_check), runs migrations, removes result files whose commit never came. One connection
// behind one mutex: calls wait for each other, a commit takes as long as the disk's sync. Errors:
// kFailedPrecondition DATA_IN_USE if another process has it, DATABASE_NEWER; kDataLoss DATABASE_CORRUPT.
absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteStore(const std::string& folder,
                                                          const SqliteOptions& options = {});

}  // namespace tomoserve::store
