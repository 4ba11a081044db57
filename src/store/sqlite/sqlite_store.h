// JobStore on one SQLite connection. Every method holds `mutex_` for its whole transaction: writers are
// serial anyway, reads are short, and so a method sees and makes one state. Result files are written before
// their commit under `results_mutex_` alone, so that a slow disk does not stop readers. Lock order:
// results_mutex_, mutex_.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "store/sqlite/database.h"
#include "store/sqlite/rows.h"
#include "store/sqlite/tokens.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/store/job_store.h"

namespace tomoserve::store {

class SqliteStore final : public JobStore {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& folder,
                                                           const SqliteOptions& options);

  absl::StatusOr<Begun> BeginSubmission(const v1::SubmissionHeader& header) override;
  absl::StatusOr<Submission> GetSubmission(std::string_view submission_id) override;
  absl::StatusOr<v1::SubmissionReceipt> Acknowledge(const Acknowledgement& acknowledgement) override;
  absl::StatusOr<std::vector<std::string>> ForgetUploads(std::int64_t before_us) override;
  absl::Status ForgetKeyless(std::string_view submission_id) override;
  absl::StatusOr<std::vector<std::string>> SubmissionIds() override;

  absl::StatusOr<StoredStudy> GetStudy(std::string_view study_uid) override;
  absl::StatusOr<std::vector<StoredInstance>> Instances(std::string_view study_uid) override;
  absl::StatusOr<ExpectedInstances> Expected(std::string_view study_uid) override;
  absl::StatusOr<std::vector<v1::InstanceStatus>> Refused(std::string_view study_uid) override;
  absl::Status SetStudyState(std::string_view study_uid, v1::StudyState state) override;
  absl::Status SetNotices(std::string_view study_uid, const std::vector<v1::Reason>& notices) override;
  absl::StatusOr<std::vector<StoredStudy>> OpenStudies() override;
  absl::Status SetUrgency(std::string_view study_uid, v1::Priority priority,
                          std::optional<std::int64_t> deadline_us) override;
  absl::StatusOr<std::vector<std::string>> CancelSubmission(std::string_view study_uid,
                                                            std::string_view submission_id) override;

  absl::StatusOr<std::vector<StoredRun>> RunsOfStudy(std::string_view study_uid) override;
  absl::StatusOr<StoredRun> GetRun(std::string_view run_id) override;
  absl::StatusOr<std::vector<StoredRun>> OpenRuns() override;
  absl::StatusOr<InputDecision> SetRunInput(std::string_view run_id, std::string_view input_digest,
                                            const GenerationLimit& limit) override;
  absl::Status MarkRunning(std::string_view run_id) override;
  absl::StatusOr<bool> RecordDeath(std::string_view run_id, bool alone, std::uint32_t max_strikes) override;
  absl::Status Requeue(std::string_view run_id) override;
  absl::Status CommitResult(const v1::Run& run, const std::optional<ResultBlob>& blob) override;
  absl::Status CommitFailure(std::string_view run_id, const v1::Reason& reason) override;
  absl::StatusOr<ResultBlob> GetLabelMap(std::string_view run_id) override;

  absl::StatusOr<FlagPage> ListFlags(const v1::ListFlagsRequest& request) override;
  absl::StatusOr<ChangePage> ListChanges(std::string_view cursor, std::uint32_t limit) override;

  absl::Status SetActivation(std::string_view name, std::string_view version,
                             const v1::ActivationRecord& record) override;
  absl::StatusOr<std::optional<v1::ActivationRecord>> GetActivation(std::string_view name,
                                                                    std::string_view version) override;
  absl::StatusOr<std::vector<v1::ActivationRecord>> ListActivations(std::string_view name,
                                                                    std::string_view version) override;

 private:
  SqliteStore() = default;
  std::string ResultPath(std::string_view file) const;
  // Removes result files that no row names: their commit never came.
  absl::Status RemoveOrphans();

  // The rest is called inside a transaction.
  absl::Status AcknowledgeInTransaction(const Acknowledgement& acknowledgement,
                                        v1::SubmissionReceipt& receipt);
  // Makes or renews the runs that a submission wants, and fills in their ids. `news`: their inputs may
  // change.
  absl::Status WantRuns(const Acknowledgement& acknowledgement, const Submission& submission,
                        const StoredStudy& study, bool news, v1::SubmissionReceipt& receipt);
  absl::StatusOr<RunRow> NewGeneration(const StoredStudy& study, const WantedModel& model,
                                       std::uint32_t generation, bool forced);
  // Ends a QUEUED run with the result of another one.
  absl::Status TakeOver(RunRow row, const RunRow& earlier);
  // The row of a run that is not final. RUN_FINAL otherwise.
  absl::StatusOr<RunRow> ReadOpenRun(std::string_view run_id);
  // Writes a final state and what follows from it for the worklist.
  absl::Status Finish(RunRow row, v1::RunState state);
  // Compares the worklist's lines of a study with its runs and appends what has changed to the feed.
  absl::Status UpdateLines(std::string_view study_uid);
  absl::Status AppendChange(const RunRow& row, v1::ChangeKind kind, const v1::FlagEntry& entry);
  // The end of the feed now.
  absl::StatusOr<FeedPosition> EndOfFeed();
  // Whether a client's position is one of this feed.
  absl::StatusOr<bool> Fits(const FeedPosition& position);

  std::function<std::int64_t()> now_us_;
  std::string folder_;
  base::UniqueFd lock_;  // flock of DATA/lock; released after the database is closed
  std::string epoch_;
  std::mutex results_mutex_;
  std::mutex mutex_;
  std::unique_ptr<Database> database_;  // guarded by mutex_
};

}  // namespace tomoserve::store
