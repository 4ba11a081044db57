// One upload: bytes to the spool, headers judged behind them, one durable commit at the end.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dispatch/header_pass.h"
#include "dispatch/submission.h"
#include "tomoserve/config/v1/server.pb.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::dispatch {

// What uploads need of the dispatcher; outlives them.
struct UploadServices {
  store::JobStore& store;
  const store::Spool& spool;
  ipc::HelperPool& helpers;
  TaskQueue& header_pool;
  config::v1::Limits limits;
  // Commits on the coordinator. Nothing comes back if the study has changed since the proposal was composed.
  std::function<absl::StatusOr<std::optional<v1::SubmissionReceipt>>(const Proposal&)> commit;
  // Adds notices to a study that is there, on the coordinator.
  std::function<void(const std::string& study_uid, const std::vector<v1::Reason>& notices)> add_notices;
  Observer* observer = nullptr;  // null: nobody
};

class UploadSession final : public Upload {
 public:
  // `released` is called at the end, whatever the outcome. An acknowledged submission needs no spool and no
  // models; `submission` may be older than another stream's acknowledgement of it. Errors: those of the spool
  // and the store, UPLOAD_IN_PROGRESS.
  static absl::StatusOr<std::unique_ptr<Upload>> Open(UploadServices& services, store::Submission submission,
                                                      std::vector<store::WantedModel> models,
                                                      std::function<void()> released);
  ~UploadSession() override;

  v1::UploadState state() const override;
  std::optional<v1::SubmissionReceipt> receipt() const override;
  absl::Status BeginInstance(const v1::InstanceStart& start) override;
  absl::Status Append(std::string_view bytes) override;
  std::vector<v1::InstanceStatus> TakeStatuses() override;
  absl::StatusOr<v1::SubmissionReceipt> Finish() override;

 private:
  UploadSession(UploadServices& services, store::Submission submission,
                std::vector<store::WantedModel> models, std::function<void()> released);
  absl::Status OpenSpool();
  // What was refused because the study has other content under its UIDs is noted there.
  void NoteRefusals(const InstanceJudge& judge, const std::string& study_uid) const;
  // Removes the spool file unless acknowledged instances lie in it.
  void RemoveSpool();
  absl::Status StartInstance(const v1::InstanceStart& start);
  absl::Status EndInstance();
  absl::StatusOr<v1::SubmissionReceipt> Commit();
  void CountRefused(std::string_view reason) const;
  // Keeps the first error: an upload that failed once cannot be acknowledged any more.
  absl::Status Fail(absl::Status status);

  UploadServices& services_;
  store::Submission submission_;
  const std::vector<store::WantedModel> models_;
  const std::function<void()> released_;
  std::optional<v1::SubmissionReceipt> receipt_;
  absl::Status failed_;
  bool worthless_ = false;  // refused for good: a repetition cannot resume it

  const double began_ms_;
  double upload_ms_ = 0;  // until Finish
  std::optional<store::SpoolWriter> writer_;
  std::shared_ptr<HeaderPass> pass_;
  v1::UploadState state_;
  std::set<std::string> resumed_keys_;
  std::set<std::string> keys_;
  std::uint64_t bytes_ = 0;

  // The instance whose bytes are coming.
  enum class Place { kNone, kSpool, kNowhere };
  Place place_ = Place::kNone;
  std::uint64_t expected_ = 0;
  std::uint64_t received_ = 0;
};

}  // namespace tomoserve::dispatch
