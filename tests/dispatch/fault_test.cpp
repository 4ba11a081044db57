// Crashing, hanging and lying workers; a dispatcher that is stopped and started again in mid-run.
#include <signal.h>

#include <fstream>
#include <map>
#include <thread>

#include "dispatch/fixture.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::SizeIs;

class FaultTest : public DispatchTest {
 protected:
  // Starts with a run that makes its worker give no result; the watchdog ends that, and others are served.
  void ExpectTheWatchdogEndsIt(const std::string& script) {
    AddModel("m", script);
    AddModel("good", "ok");
    options_.patience.max_strikes = 1;
    Start();
    EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_QUARANTINED);
    FakeStudy study;
    study.study_uid = "1.2.4";
    EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
  }
  bool IsRunningOnDevice(const std::string& study_uid) {
    const auto study = dispatcher_->GetStudy(study_uid);
    return study.ok() && study->runs_size() > 0 && study->runs(0).progress() > 0;
  }
  // Changes of a run in the feed: more than one CREATED line would be a result that appeared twice.
  int Changes(const std::string& run_id, v1::ChangeKind kind) {
    const auto page = dispatcher_->store().ListChanges("", 1000);
    EXPECT_TRUE(page.ok()) << page.status();
    int count = 0;
    for (const v1::FlagChange& change : page->changes) {
      count += change.flag().run_id() == run_id && change.kind() == kind ? 1 : 0;
    }
    return count;
  }
};

TEST_F(FaultTest, AKilledWorkerCostsNothingButTime) {
  AddModel("m", "slow 400");
  Start();
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  ASSERT_EQ(::kill(WaitForWorker(), SIGKILL), 0);
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(run.findings(0).voxels(), 8u);
  EXPECT_EQ(Changes(run_id, v1::CHANGE_KIND_CREATED), 1);
  const auto stored = dispatcher_->store().GetRun(run_id);
  EXPECT_EQ(stored->strikes, 0u);
  EXPECT_FALSE(stored->suspect) << "a kill from outside says nothing about the run";
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 1u);
}

TEST_F(FaultTest, ACrashMakesASuspectThatIsTriedAgain) {
  AddModel("m", "once " + (folder_ / "died").string());
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  const auto stored = dispatcher_->store().GetRun(run.run_id());
  EXPECT_TRUE(stored->suspect);
  EXPECT_EQ(stored->strikes, 0u) << "the first death is no strike";
}

TEST_F(FaultTest, ThreeStrikesQuarantineOneRunAndHarmNoOther) {
  AddModel("poison", "crash");
  AddModel("good", "ok");
  Start();
  const std::string poison = MustSubmit(Wanting({"poison"}), FakeStudy().Files()).run_ids(0);
  std::vector<std::string> good;
  for (int i = 0; i < 5; ++i) {
    FakeStudy study;
    study.study_uid = "1.2." + std::to_string(i);
    good.push_back(MustSubmit(Wanting({"good"}), study.Files()).run_ids(0));
  }
  for (const std::string& run_id : good) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(WaitForRun(poison).state(), v1::RUN_STATE_QUARANTINED);
  EXPECT_EQ(dispatcher_->store().GetRun(poison)->strikes, 3u);
  EXPECT_TRUE(Eventually([&] { return dispatcher_->Devices()[0].restarts == 4; }));
  EXPECT_EQ(Changes(poison, v1::CHANGE_KIND_CREATED), 1);
}

TEST_F(FaultTest, AnExitIsBlamedLikeACrash) {
  AddModel("m", "exit");
  options_.patience.max_strikes = 1;
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_QUARANTINED);
}

TEST_F(FaultTest, TheWatchdogEndsAWorkerThatHangs) {
  options_.patience.heartbeat = std::chrono::milliseconds(300);
  ExpectTheWatchdogEndsIt("hang");
}

TEST_F(FaultTest, TheWatchdogEndsAWorkerThatOnlyBeats) {
  options_.patience.stage_stall = std::chrono::milliseconds(500);
  ExpectTheWatchdogEndsIt("stall");
}

TEST_F(FaultTest, BetweenWindowsTheWatchdogWaitsShorter) {
  AddModel("m", "stall_late");
  options_.patience.window_stall = std::chrono::milliseconds(500);
  options_.patience.stage_stall = std::chrono::hours(1);
  options_.patience.max_strikes = 1;
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_QUARANTINED);
}

TEST_F(FaultTest, SlowRunsThatMoveAreNotStalled) {
  AddModel("slow", "slow 1500");
  AddModel("quiet", "quiet 1500");
  options_.patience.window_stall = std::chrono::milliseconds(500);
  options_.patience.stage_stall = std::chrono::milliseconds(500);
  Start();
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"slow", "quiet"}), FakeStudy().Files());
  for (const std::string& run_id : receipt.run_ids()) {
    EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  }
  // Idle workers are not watched.
  std::this_thread::sleep_for(std::chrono::milliseconds(1000));
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u);
}

TEST_F(FaultTest, AModelThatIsLoadedForEverIsRefusedAndTheOthersAreServed) {
  AddModel("stuck", "stall_load");
  AddModel("good", "ok");
  options_.patience.load_stall = std::chrono::milliseconds(400);
  Start();
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 2u);
  EXPECT_EQ(RunOf("stuck").failure().code(), "MODEL_REFUSED");
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
}

class LieTest : public FaultTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(LieTest, IsRefusedAndTheWorkerReplaced) {
  AddModel("liar", std::string("lie ") + GetParam());
  AddModel("good", "ok");
  Start();
  const v1::Run run = RunOf("liar");
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "WORKER_LIED");
  EXPECT_THAT(run.findings(), SizeIs(0));
  EXPECT_TRUE(Eventually([&] { return dispatcher_->Devices()[0].restarts == 1; }));
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
}

INSTANTIATE_TEST_SUITE_P(Fields, LieTest,
                         ::testing::Values("label_map", "no_label_map", "label_value", "score", "key_slice_k",
                                           "centre_lps", "labels", "findings", "windows_told", "windows_many",
                                           "windows_none", "timing_nan", "timing_negative", "timing_long",
                                           "timing_twice", "time_point", "label_time_point", "center_lps",
                                           "center_lps_none", "hounsfield_none", "hounsfield_all",
                                           "hounsfield_body", "hounsfield_tissue", "hounsfield_dense",
                                           "mean_hu", "standard_deviation_hu", "distances"),
                         [](const auto& parameter) { return std::string(parameter.param); });

TEST_F(FaultTest, HounsfieldCountsOfAnMrAreALie) {
  AddModel("liar", "lie hounsfield_unasked", "MR");
  Start();
  FakeStudy study;
  study.modality = "MR";
  const v1::Run run = RunOf("liar", study);
  EXPECT_EQ(run.failure().code(), "WORKER_LIED") << run.failure().ShortDebugString();
}

TEST_F(FaultTest, AnAnswerForAnotherRunKillsTheWorker) {
  AddModel("liar", "lie run_id");
  options_.patience.max_strikes = 1;
  Start();
  FakeStudy study;
  const std::string run_id = MustSubmit(Wanting({"liar"}), study.Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return dispatcher_->Devices()[0].restarts >= 2; }));
  EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_QUARANTINED);
}

TEST_F(FaultTest, AModelThatKillsItsLoaderIsRefusedAndTheOthersAreServed) {
  AddModel("bomb", "bomb");
  AddModel("good", "ok");
  Start();
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 2u);
  const v1::SubmissionReceipt receipt = MustSubmit(Wanting({"bomb", "good"}), FakeStudy().Files());
  std::map<std::string, v1::Run> runs;
  for (const std::string& run_id : receipt.run_ids()) {
    const v1::Run run = WaitForRun(run_id);
    runs[run.model()] = run;
  }
  EXPECT_EQ(runs["bomb"].failure().code(), "MODEL_REFUSED");
  EXPECT_EQ(runs["bomb"].failure().value(), "LOAD_CRASHED");
  EXPECT_EQ(runs["good"].state(), v1::RUN_STATE_DONE);
}

TEST_F(FaultTest, APreparedRunDoesNotWaitForAModelThatIsRefusedNow) {
  AddModel("slow", "slow 60000");
  AddModel("sour", "sour " + (folder_ / "loaded").string());
  Start();
  MustSubmit(Wanting({"slow"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  FakeStudy other;
  other.study_uid = "1.2.4";
  const int decoded = helpers_.frames_decoded;
  const std::string run_id = MustSubmit(Wanting({"sour"}), other.Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return helpers_.frames_decoded == decoded + 8; }));
  ASSERT_EQ(::kill(WaitForWorker(), SIGKILL), 0);
  EXPECT_EQ(WaitForRun(run_id).failure().code(), "MODEL_REFUSED");
}

TEST_F(FaultTest, AWorkerThatKeepsACancelledRunIsReplaced) {
  AddModel("deaf", "deaf 60000");
  AddModel("good", "ok");
  options_.patience.cancel = std::chrono::milliseconds(200);
  Start();
  const auto receipt = MustSubmit(Wanting({"deaf"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", receipt.submission_id()).ok());
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_CANCELLED);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 1u);
}

TEST_F(FaultTest, ARestartInMidRunResumesAndCommitsOnce) {
  AddModel("m", "slow 500");
  Start();
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  Stop();
  {
    const auto store = store::OpenSqliteStore((folder_ / "data").string());
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->GetRun(run_id)->run.state(), v1::RUN_STATE_QUEUED);
  }
  Start(false);
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(Changes(run_id, v1::CHANGE_KIND_CREATED), 1);
  const auto stored = dispatcher_->store().GetRun(run_id);
  EXPECT_EQ(stored->strikes, 0u);
  EXPECT_FALSE(stored->suspect);
}

TEST_F(FaultTest, ARunThatAKillLeftRunningIsQueuedAgain) {
  AddModel("m", "ok");
  AddModel("slow", "slow 100000");
  Start();
  const std::string run_id = MustSubmit(Wanting({"slow"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  Stop();
  {
    const auto store = store::OpenSqliteStore((folder_ / "data").string());
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->MarkRunning(run_id).ok());
  }
  std::filesystem::remove_all(folder_ / "models" / "slow");
  Start();
  // Its model is gone: that is said instead of waiting for ever.
  const v1::Run run = WaitForRun(run_id);
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "MODEL_GONE");
}

TEST_F(FaultTest, DrainingFinishesWhatRunsAndTakesNothingNew) {
  AddModel("m", "slow 300");
  Start();
  std::vector<std::string> runs;
  for (const char* study_uid : {"1.2.3", "1.2.4", "1.2.5"}) {
    runs.push_back(MustSubmit(Wanting({"m"}), FakeStudy{.study_uid = study_uid}.Files()).run_ids(0));
  }
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  dispatcher_->Drain(std::chrono::seconds(10));
  EXPECT_EQ(StateOf(runs[0]), v1::RUN_STATE_DONE);
  EXPECT_EQ(StateOf(runs[1]), v1::RUN_STATE_DONE) << "it shared the device";
  EXPECT_EQ(StateOf(runs[2]), v1::RUN_STATE_QUEUED);
  EXPECT_FALSE(dispatcher_->ready());
  const auto upload = dispatcher_->BeginUpload(Wanting({"m"}));
  EXPECT_EQ(upload.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(upload.status()), "DRAINING");
}

TEST_F(FaultTest, DrainingEndsAfterItsTime) {
  AddModel("m", "slow 60000");
  Start();
  const std::string run_id = MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0);
  ASSERT_TRUE(Eventually([&] { return IsRunningOnDevice("1.2.3"); }));
  dispatcher_->Drain(std::chrono::milliseconds(100));
  EXPECT_EQ(StateOf(run_id), v1::RUN_STATE_QUEUED);
}

TEST_F(FaultTest, AMissingWorkerProgramIsAnError) {
  AddModel("m", "ok");
  ASSERT_TRUE(base::CompleteServerConfig(options_.config).ok());
  options_.worker_program = "/nowhere/tomoserve-worker";
  const auto dispatcher = DispatcherImpl::Start(options_, std::make_unique<FakeHelpers>(helpers_));
  EXPECT_EQ(base::ReasonOf(dispatcher.status()), "PROGRAM_MISSING");
}

TEST_F(FaultTest, NothingIsLeftAfter200Studies) {
  AddModel("m", "ok");
  Start();
  const auto descriptors = [] {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
  };
  const auto threads = [] {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) ++count;
    return count;
  };
  FakeStudy study;
  study.slices = 2;
  study.study_uid = "1.2.warm";
  WaitForRun(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
  ASSERT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
  const std::size_t descriptors_before = descriptors();
  const std::size_t threads_before = threads();
  std::vector<std::string> run_ids;
  for (int i = 0; i < 200; ++i) {
    study.study_uid = "1.2." + std::to_string(i);
    run_ids.push_back(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
    if (i % 50 == 10) ::kill(WaitForWorker(), SIGKILL);
  }
  for (const std::string& run_id : run_ids) ASSERT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
  ASSERT_TRUE(Eventually([this] { return dispatcher_->ready(); }));
  EXPECT_TRUE(Eventually([&] { return descriptors() <= descriptors_before; }))
      << descriptors() << " descriptors, " << descriptors_before << " before";
  EXPECT_EQ(threads(), threads_before);
  EXPECT_THAT(Workers(), SizeIs(1));
  Stop();
  EXPECT_THAT(Workers(), SizeIs(0));
}

}  // namespace
}  // namespace tomoserve::dispatch
