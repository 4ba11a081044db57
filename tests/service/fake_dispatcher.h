// A dispatcher that answers from a script, for tests of the gRPC face.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/dispatch/dispatcher.h"

namespace tomoserve::service {

// What the uploads of a test did; outlives them.
struct Record {
  std::mutex mutex;
  std::vector<std::string> keys;
  std::string bytes;
  std::atomic<int> finished = 0;
  std::atomic<int> dropped = 0;
};

class FakeUpload final : public dispatch::Upload {
 public:
  FakeUpload(Record& record, std::optional<v1::SubmissionReceipt> receipt)
      : record_(record), receipt_(std::move(receipt)) {}
  ~FakeUpload() override { ++record_.dropped; }
  v1::UploadState state() const override {
    v1::UploadState state;
    state.set_submission_id("submission");
    return state;
  }
  std::optional<v1::SubmissionReceipt> receipt() const override { return receipt_; }
  absl::Status BeginInstance(const v1::InstanceStart& start) override {
    const std::lock_guard lock(record_.mutex);
    record_.keys.push_back(start.instance_key());
    return absl::OkStatus();
  }
  absl::Status Append(std::string_view bytes) override {
    const std::lock_guard lock(record_.mutex);
    record_.bytes += bytes;
    if (bytes == "full") {
      return base::Error(absl::StatusCode::kResourceExhausted, "DISK_FULL", "0", "no space is left");
    }
    return absl::OkStatus();
  }
  std::vector<v1::InstanceStatus> TakeStatuses() override { return {}; }
  absl::StatusOr<v1::SubmissionReceipt> Finish() override {
    ++record_.finished;
    v1::SubmissionReceipt receipt;
    receipt.set_study_instance_uid("1.2.3");
    receipt.add_run_ids("run");
    return receipt;
  }

 private:
  Record& record_;
  std::optional<v1::SubmissionReceipt> receipt_;
};

class FakeDispatcher final : public dispatch::Dispatcher {
 public:
  absl::StatusOr<std::unique_ptr<dispatch::Upload>> BeginUpload(const v1::SubmissionHeader& header) override {
    if (!header.models().empty() && header.models(0).name() == "nobody") {
      return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", "nobody", "no such model");
    }
    std::optional<v1::SubmissionReceipt> receipt;
    if (header.idempotency_key() == "known") {
      receipt.emplace();
      receipt->set_submission_id("earlier");
    }
    return std::make_unique<FakeUpload>(record, receipt);
  }
  absl::StatusOr<v1::Study> GetStudy(std::string_view study_uid) override {
    if (study_uid != "1.2.3") {
      return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_STUDY", "", "no such study");
    }
    v1::Study study;
    v1::Run& run = *study.add_runs();
    run.set_run_id("run");
    run.set_state(done ? v1::RUN_STATE_DONE : v1::RUN_STATE_RUNNING);
    study.mutable_summary()->set_state(done ? v1::SUMMARY_STATE_FINAL : v1::SUMMARY_STATE_PENDING);
    return study;
  }
  absl::StatusOr<v1::Study> CloseStudy(std::string_view study_uid) override { return GetStudy(study_uid); }
  absl::StatusOr<v1::CancelStudyResponse> CancelStudy(std::string_view, std::string_view) override {
    return v1::CancelStudyResponse();
  }
  absl::StatusOr<v1::Study> UpdateStudy(const v1::UpdateStudyRequest& request) override {
    return GetStudy(request.study_instance_uid());
  }
  absl::StatusOr<v1::PlanStudyResponse> PlanStudy(const v1::PlanStudyRequest&) override {
    return v1::PlanStudyResponse();
  }
  absl::StatusOr<v1::RerunStudyResponse> RerunStudy(const v1::RerunStudyRequest&) override {
    return v1::RerunStudyResponse();
  }
  std::vector<dispatch::ModelStatus> Models() override {
    return {{.model = &model, .activation = {}, .devices = {}}};
  }
  absl::StatusOr<dispatch::ModelStatus> SetActivation(const v1::SetActivationRequest& request) override {
    if (request.name() != model.name) {
      return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", request.name(), "no such model");
    }
    v1::ActivationRecord& row = history.emplace_back();
    row.set_stage(request.stage());
    row.set_by(request.by());
    return dispatch::ModelStatus{.model = &model, .activation = row, .devices = {}};
  }
  absl::StatusOr<dispatch::Reloaded> ReloadModels() override {
    return dispatch::Reloaded{.added = {&model}, .removed = {}};
  }
  absl::StatusOr<std::vector<v1::ActivationRecord>> ActivationHistory(std::string_view,
                                                                      std::string_view) override {
    return history;
  }
  std::vector<dispatch::DeviceInfo> Devices() override { return {}; }
  store::JobStore& store() override { std::abort(); }  // no test here reads the store
  Subscription Subscribe(std::function<void(const std::string&, const std::string&)> changed) override {
    const std::lock_guard lock(mutex);
    subscriber = std::move(changed);
    return std::make_shared<int>(0);
  }
  std::string NotReady() override { return is_ready ? "" : "STARTING"; }
  absl::Status CheckAlive(std::chrono::milliseconds) override { return absl::OkStatus(); }
  absl::StatusOr<dispatch::Activity> Observe(std::chrono::milliseconds) override {
    return dispatch::Activity();
  }
  void Drain(std::chrono::milliseconds) override {}

  void CompleteRun() {
    done = true;
    std::function<void(const std::string&, const std::string&)> call;
    {
      const std::lock_guard lock(mutex);
      call = subscriber;
    }
    if (call) call("1.2.3", "run");
  }

  Record record;
  models::Model model = [] {
    models::Model made;
    made.name = "finder";
    made.version = "1";
    return made;
  }();
  std::atomic<bool> done = false;
  std::atomic<bool> is_ready = true;
  std::vector<v1::ActivationRecord> history;
  std::mutex mutex;
  std::function<void(const std::string&, const std::string&)> subscriber;
};

}  // namespace tomoserve::service
