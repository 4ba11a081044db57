// The dispatcher: wires intake, scheduler and devices to one coordinator.
#pragma once

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "dispatch/catalogue.h"
#include "dispatch/devices.h"
#include "dispatch/intake.h"
#include "dispatch/scheduler.h"
#include "dispatch/subscriptions.h"
#include "dispatch/task_queue.h"
#include "dispatch/upload.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::dispatch {

// Threads: one coordinator for every decision; a pool for decoding, planning and packing; a pool for header
// passes; one reader per worker. Thread-safe.
class DispatcherImpl final : public Dispatcher {
 public:
  // As StartDispatcher, with helpers that are there already.
  static absl::StatusOr<std::unique_ptr<DispatcherImpl>> Start(DispatcherOptions options,
                                                               std::unique_ptr<ipc::HelperPool> helpers);
  ~DispatcherImpl() override;

  absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(const v1::SubmissionHeader& header) override;
  absl::StatusOr<v1::Study> GetStudy(std::string_view study_uid) override;
  absl::StatusOr<v1::Study> CloseStudy(std::string_view study_uid) override;
  absl::StatusOr<v1::CancelStudyResponse> CancelStudy(std::string_view study_uid,
                                                      std::string_view submission_id) override;
  absl::StatusOr<v1::Study> UpdateStudy(const v1::UpdateStudyRequest& request) override;
  absl::StatusOr<v1::PlanStudyResponse> PlanStudy(const v1::PlanStudyRequest& request) override;
  absl::StatusOr<v1::RerunStudyResponse> RerunStudy(const v1::RerunStudyRequest& request) override;
  std::vector<ModelStatus> Models() override;
  absl::StatusOr<ModelStatus> SetActivation(const v1::SetActivationRequest& request) override;
  absl::StatusOr<Reloaded> ReloadModels() override;
  absl::StatusOr<std::vector<v1::ActivationRecord>> ActivationHistory(std::string_view name,
                                                                      std::string_view version) override;
  std::vector<DeviceInfo> Devices() override;
  store::JobStore& store() override { return *store_; }
  Subscription Subscribe(
      std::function<void(const std::string& study_uid, const std::string& run_id)> changed) override;
  std::string NotReady() override;
  absl::Status CheckDevices() override { return devices_.CheckEnough(); }
  absl::Status CheckAlive(std::chrono::milliseconds patience) override;
  absl::StatusOr<Activity> Observe(std::chrono::milliseconds patience) override;
  void Drain(std::chrono::milliseconds grace) override;

  // Host memory that arenas and label maps hold now, bytes.
  std::uint64_t host_bytes_used() const { return ledger_.used(); }

 private:
  DispatcherImpl(DispatcherOptions options, std::unique_ptr<ipc::HelperPool> helpers,
                 std::unique_ptr<store::JobStore> store, store::Spool spool,
                 std::unique_ptr<Catalogue> catalogue);
  // Removes uploads that nobody can resume, their spool files and their rows.
  absl::Status CleanSpool();
  absl::Status Resume();
  // Forgets uploads that nobody resumed in time; again every hour.
  void ForgetUploads();
  // BeginUpload, whose errors are counted.
  absl::StatusOr<std::unique_ptr<Upload>> OpenUpload(const v1::SubmissionHeader& header);
  // What the coordinator knows. Errors: those of CheckAlive.
  absl::StatusOr<Activity> AskCoordinator(std::chrono::milliseconds patience);
  ModelStatus StatusOf(const models::Model& model);
  // Rows of models that are wanted, as good as the catalogue has them now.
  absl::StatusOr<std::vector<store::WantedModel>> Wanted(
      const google::protobuf::RepeatedPtrField<v1::ModelSelector>& selectors, bool solicited) const;
  // Runs `task` on the coordinator. Errors: those of the task, DRAINING.
  absl::Status OnCoordinator(const std::function<absl::Status()>& task);

  const DispatcherOptions options_;
  Observer silent_;
  Observer& observer_;  // silent_ where nobody wants to know
  std::unique_ptr<store::JobStore> store_;
  const store::Spool spool_;
  std::unique_ptr<Catalogue> catalogue_;
  std::unique_ptr<ipc::HelperPool> helpers_;
  ipc::HostLedger ledger_;
  Subscriptions subscriptions_;
  std::atomic<bool> draining_{false};
  std::shared_ptr<std::atomic<std::uint32_t>> open_uploads_;  // uploads hold it too

  TaskQueue pool_;
  TaskQueue header_pool_;
  TaskQueue coordinator_;
  dispatch::Devices devices_;
  Scheduler scheduler_;
  Intake intake_;
  UploadServices upload_services_;

  std::mutex answer_mutex_;
  std::shared_future<Activity> answer_;  // the coordinator's newest
};

}  // namespace tomoserve::dispatch
