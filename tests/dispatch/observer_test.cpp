// What the dispatcher tells whoever counts, and what it shows when it is asked.
#include <signal.h>

#include <condition_variable>
#include <fstream>
#include <mutex>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Le;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

// Writes events down, one line each.
class Notes final : public Observer {
 public:
  void OnUploadBytes(std::uint64_t bytes) override {
    const std::lock_guard lock(mutex_);
    bytes_ += bytes;
  }
  void OnInstanceRefused(std::string_view reason) override { Note("instance_refused", reason); }
  void OnSubmissionAcknowledged(const SubmissionReport& report) override {
    const bool timed = report.upload_ms > 0 && report.header_ms > 0 && report.acknowledge_ms > 0;
    Note("acknowledged", absl::StrCat(report.receipt.instances_accepted(), timed ? "" : " without times"));
  }
  void OnSubmissionRefused(std::string_view reason) override { Note("refused", reason); }
  void OnRunDequeued(v1::Priority priority, double queue_ms) override {
    Note("dequeued", absl::StrCat(v1::Priority_Name(priority), queue_ms >= 0 ? "" : " in the past"));
  }
  void OnRunDone(const RunReport& report) override {
    const bool timed = report.commit_ms > 0 && report.total_ms >= report.commit_ms;
    Note("done", absl::StrCat(report.run.model(), " ", v1::FlagState_Name(report.run.flag().state()),
                              timed ? "" : " without times"));
  }
  void OnRunFailed(std::string_view model, std::string_view reason) override {
    Note("failed", absl::StrCat(base::ToAbsl(model), " ", base::ToAbsl(reason)));
  }
  void OnRunCancelled(std::string_view model) override { Note("cancelled", model); }
  void OnRunQuarantined(std::string_view model) override { Note("quarantined", model); }
  void OnRunRequeued(std::string_view model, bool blamed) override {
    Note("requeued", absl::StrCat(base::ToAbsl(model), blamed ? " blamed" : ""));
  }
  void OnRunTakenOver(std::string_view model) override { Note("taken_over", model); }
  void OnWorkerDeath(const std::string& device, std::string_view cause) override {
    Note("death", absl::StrCat(device, " ", base::ToAbsl(cause)));
  }

  std::vector<std::string> lines() const {
    const std::lock_guard lock(mutex_);
    return lines_;
  }
  std::ptrdiff_t Count(const std::string& line) const {
    const std::lock_guard lock(mutex_);
    return std::count(lines_.begin(), lines_.end(), line);
  }
  std::uint64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  void Note(const char* what, std::string_view which) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(absl::StrCat(what, " ", base::ToAbsl(which)));
  }

  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::uint64_t bytes_ = 0;
};

class ObserverTest : public DispatchTest {
 protected:
  ObserverTest() { options_.observer = &notes_; }
  // The dispatcher tells after it has committed.
  bool Told(const std::string& line, std::ptrdiff_t times = 1) {
    return Eventually([&] { return notes_.Count(line) >= times; }) && notes_.Count(line) == times;
  }
  Activity Now() {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(10));
    EXPECT_TRUE(activity.ok()) << activity.status();
    return activity.ok() ? *activity : Activity();
  }

  Notes notes_;

 private:
  // The notes outlive the dispatcher.
  void TearDown() override { dispatcher_.reset(); }
};

TEST_F(ObserverTest, AStudysWayIsToldOnce) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_priority(v1::PRIORITY_STAT);
  const std::vector<std::string> files = FakeStudy().Files();
  WaitForRun(MustSubmit(header, files).run_ids(0));
  EXPECT_TRUE(Told("done m FLAG_STATE_FLAGGED"));
  EXPECT_THAT(notes_.lines(),
              ElementsAre("acknowledged 8", "dequeued PRIORITY_STAT", "done m FLAG_STATE_FLAGGED"));
  std::uint64_t bytes = 0;
  for (const std::string& file : files) bytes += file.size();
  EXPECT_EQ(notes_.bytes(), bytes);
}

TEST_F(ObserverTest, AnInputThatSuitsNoModelNeedsNoQueue) {
  AddModel("m", "ok", "MR");
  Start();
  WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_TRUE(Told("done m FLAG_STATE_NOT_APPLICABLE"));
  EXPECT_THAT(notes_.lines(), Not(Contains(StartsWith("dequeued"))));
}

TEST_F(ObserverTest, RefusalsAreToldOnceWithTheirReason) {
  AddModel("m", "ok");
  Start();
  EXPECT_FALSE(Submit(Wanting({"nobody"}), {}).ok());
  EXPECT_FALSE(Submit(Wanting({"m"}), {}).ok());
  EXPECT_FALSE(Submit(Wanting({"m"}), {"junk", "more junk"}).ok());
  {
    const auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
    ASSERT_TRUE(upload.ok());
    ASSERT_TRUE(SendInstance(**upload, "k", "some bytes").ok());
  }
  for (const char* line :
       {"refused UNKNOWN_MODEL", "refused EMPTY_STUDY", "refused ALL_REFUSED", "refused UPLOAD_DROPPED"}) {
    EXPECT_EQ(notes_.Count(line), 1) << line;
  }
  // The dropped upload's instance may have been read before it went.
  EXPECT_THAT(notes_.Count("instance_refused NOT_DICOM"), AllOf(Ge(2), Le(3)));
}

TEST_F(ObserverTest, FailuresAreToldWithTheirReason) {
  AddModel("m", "fail");
  Start();
  WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  EXPECT_TRUE(Told("failed m NETWORK_FAILED"));
}

TEST_F(ObserverTest, CancellationsAreToldOnce) {
  AddModel("m", "slow 60000");
  Start();
  MustSubmit(Wanting({"m"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return Now().devices[0].runs > 0; }));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", "").ok());
  EXPECT_TRUE(Told("cancelled m"));
  ASSERT_TRUE(Eventually([&] { return Now().devices[0].runs == 0; }));
  EXPECT_EQ(notes_.Count("cancelled m"), 1);
}

TEST_F(ObserverTest, DeathsRequeueAndAreCountedByCause) {
  AddModel("m", "crash");
  options_.patience.max_strikes = 2;
  Start();
  EXPECT_EQ(WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0)).state(),
            v1::RUN_STATE_QUARANTINED);
  EXPECT_TRUE(Told("quarantined m"));
  EXPECT_TRUE(Told("requeued m blamed", 2));
  EXPECT_TRUE(Told("death cpu SIGNAL", 3));
  EXPECT_EQ(notes_.Count("dequeued PRIORITY_ROUTINE") + notes_.Count("dequeued PRIORITY_UNSPECIFIED"), 1)
      << "it waited in the queue once";
}

TEST_F(ObserverTest, ALossOfTheDeviceHasACauseOfItsOwn) {
  std::ofstream(folder_ / "losses") << 1;
  AddModel("m", "lost " + (folder_ / "losses").string());
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  EXPECT_TRUE(Told("death cpu DEVICE_LOST"));
  EXPECT_TRUE(Told("requeued m blamed"));
}

TEST_F(ObserverTest, TheLastLossIsNoReturnToTheQueue) {
  std::ofstream(folder_ / "losses") << 100;
  AddModel("m", "lost " + (folder_ / "losses").string());
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_QUARANTINED);
  EXPECT_TRUE(Told("quarantined m"));
  EXPECT_TRUE(Told("death cpu DEVICE_LOST", 2));
  EXPECT_EQ(notes_.Count("requeued m blamed"), 1);
}

TEST_F(ObserverTest, AfterWhyItIsUnusableAWorkerSaysNothingMore) {
  AddModel("m", "ok");
  options_.config.add_devices("cuda:6");
  options_.config.set_min_devices(1);
  Start();
  EXPECT_TRUE(Eventually([&] { return notes_.Count("death cuda:6 PROTOCOL") > 0; }))
      << ::testing::PrintToString(notes_.lines());
  const std::vector<DeviceInfo> infos = dispatcher_->Devices();
  EXPECT_EQ(infos[1].unusable.code(), "DEVICE_UNSUPPORTED");
  EXPECT_EQ(infos[1].device_kind, "") << "its hello was not accepted";
  EXPECT_FALSE(infos[1].ready);
}

TEST_F(ObserverTest, WhatAGpuHoldsIsWhatItsWorkerSays) {
  AddModel("m", "ok");
  options_.config.add_devices("cuda:0");
  Start();
  EXPECT_TRUE(Eventually([&] { return Now().devices[1].gpu_used_bytes == 123456; }));
  const Activity activity = Now();
  EXPECT_TRUE(activity.devices[1].is_gpu);
  EXPECT_FALSE(activity.devices[0].is_gpu);
  EXPECT_EQ(activity.devices[0].gpu_used_bytes, 0u);
}

TEST_F(ObserverTest, AResultThatIsTakenOverIsToldAsSuch) {
  AddModel("m", "ok");
  Start();
  WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0));
  FakeStudy more;
  more.series_uid = "1.2.3.5";
  more.modality = "MR";
  WaitForRun(MustSubmit(Wanting({"m"}), more.Files()).run_ids(0));
  EXPECT_TRUE(Told("acknowledged 8", 2));
  EXPECT_TRUE(Told("taken_over m")) << ::testing::PrintToString(notes_.lines());
  EXPECT_EQ(notes_.Count("done m FLAG_STATE_FLAGGED"), 1);
}

TEST_F(ObserverTest, TheQueueAndTheDeviceAreSeen) {
  AddModel("m", "slow 60000");
  Start();
  EXPECT_THAT(Now().priorities, SizeIs(3)) << "priorities without runs too";
  FakeStudy study;
  v1::SubmissionHeader header = Wanting({"m"});
  MustSubmit(header, study.Files());
  study.study_uid = "1.2.4";
  MustSubmit(header, study.Files());
  ASSERT_TRUE(Eventually([&] { return Now().priorities[v1::PRIORITY_ROUTINE].in_flight == 2; }));
  EXPECT_GT(Now().devices[0].runs, 0u);
  study.study_uid = "1.2.5";
  MustSubmit(header, study.Files());
  header.set_completion(v1::COMPLETION_MORE_EXPECTED);
  study.study_uid = "1.2.6";
  MustSubmit(header, study.Files());
  ASSERT_TRUE(Eventually([&] { return Now().priorities[v1::PRIORITY_ROUTINE].waiting == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  Activity activity = Now();
  EXPECT_EQ(activity.priorities[v1::PRIORITY_ROUTINE].in_flight, 2u);
  EXPECT_GE(activity.priorities[v1::PRIORITY_ROUTINE].oldest_wait_ms, 20);
  EXPECT_EQ(activity.priorities[v1::PRIORITY_STAT].in_flight, 0u);
  EXPECT_EQ(activity.priorities[v1::PRIORITY_STAT].waiting, 0u);
  EXPECT_EQ(activity.incomplete, 1u);
  EXPECT_EQ(activity.open_uploads, 1u);
  ASSERT_THAT(activity.devices, SizeIs(1));
  const DeviceActivity& device = activity.devices[0];
  EXPECT_EQ(device.device, "cpu");
  EXPECT_EQ(device.device_kind, "fake");
  EXPECT_TRUE(device.ready);
  // Weights and forward pass of the model as the worker says, then of each run the arrays of 8 x 6 x 8
  // voxels.
  EXPECT_EQ(device.predicted_bytes, 1000u + 500u + 2 * (8u * 6 * 8 * 2 * 4 + kWaitingBytes));
  EXPECT_THAT(Workers(), Contains(device.worker_pid));
  ASSERT_THAT(activity.models, SizeIs(1));
  EXPECT_EQ(activity.models[0].model, "m");
  EXPECT_TRUE(activity.models[0].ready);
  EXPECT_EQ(activity.host_bytes, dispatcher_->host_bytes_used());
  EXPECT_GT(activity.host_bytes, 0u);
  EXPECT_EQ(activity.host_limit_bytes, 64u << 20);
  EXPECT_GT(activity.spool_bytes, 0u);
  EXPECT_GT(activity.spool_free_bytes, 0u);
}

TEST_F(ObserverTest, ReadinessSaysWhyNot) {
  AddModel("m", "stall_load");
  Start(false);
  EXPECT_EQ(dispatcher_->NotReady(), "STARTING");
  ::kill(WaitForWorker(), SIGKILL);
  EXPECT_TRUE(Eventually([&] { return dispatcher_->NotReady() == "DEVICE_UNAVAILABLE"; }));
  dispatcher_->Drain(std::chrono::milliseconds(0));
  EXPECT_EQ(dispatcher_->NotReady(), "DRAINING");
  EXPECT_FALSE(dispatcher_->ready());
}

TEST_F(ObserverTest, ADeadWorkerIsToldAndComesBack) {
  AddModel("m", "ok");
  Start();
  EXPECT_EQ(dispatcher_->NotReady(), "");
  ::kill(WaitForWorker(), SIGKILL);
  EXPECT_TRUE(Told("death cpu SIGNAL"));
  EXPECT_TRUE(Eventually([&] { return dispatcher_->ready(); }));
}

TEST_F(ObserverTest, ACoordinatorThatHangsIsNoticedAndCollectsNoQuestions) {
  AddModel("m", "ok");
  Start();
  std::mutex mutex;
  std::condition_variable changed;
  bool hold = true;
  bool held = false;
  const auto subscription = dispatcher_->Subscribe([&](const std::string&, const std::string&) {
    std::unique_lock lock(mutex);
    held = true;
    changed.notify_all();
    changed.wait(lock, [&] { return !hold; });
  });
  EXPECT_TRUE(dispatcher_->CheckAlive(std::chrono::seconds(10)).ok());
  std::thread submitter([&] { MustSubmit(Wanting({"m"}), FakeStudy().Files()); });
  {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return held; });
  }
  for (int i = 0; i < 3; ++i) {
    const absl::Status status = dispatcher_->CheckAlive(std::chrono::milliseconds(20));
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
    EXPECT_EQ(base::ReasonOf(status), "COORDINATOR_STALLED");
    EXPECT_EQ(base::ValueOf(status), "20");
  }
  EXPECT_FALSE(dispatcher_->Observe(std::chrono::milliseconds(20)).ok());
  {
    const std::lock_guard lock(mutex);
    hold = false;
  }
  changed.notify_all();
  submitter.join();
  EXPECT_TRUE(dispatcher_->CheckAlive(std::chrono::seconds(10)).ok());
}

}  // namespace
}  // namespace tomoserve::dispatch
