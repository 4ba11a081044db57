// Studies that come in parts, late, twice; cancellation.
#include <thread>

#include "dispatch/fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class StudyTest : public DispatchTest {
 protected:
  static std::vector<std::string> Part(const FakeStudy& study, std::uint32_t from, std::uint32_t to) {
    std::vector<std::string> files;
    for (std::uint32_t k = from; k < to; ++k) files.push_back(study.File(k));
    return files;
  }
  static v1::SubmissionHeader Parts(v1::Completion completion, std::uint32_t settle_seconds = 0) {
    v1::SubmissionHeader header = Wanting({"m"});
    header.set_completion(completion);
    header.set_settle_seconds(settle_seconds);
    return header;
  }
  v1::StudyState StudyStateOf(const std::string& study_uid) {
    return dispatcher_->GetStudy(study_uid)->state();
  }
};

TEST_F(StudyTest, WaitsForCloseStudyWhenMoreIsExpected) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  const auto first = MustSubmit(Parts(v1::COMPLETION_MORE_EXPECTED), Part(study, 0, 4));
  const auto second = MustSubmit(Parts(v1::COMPLETION_MORE_EXPECTED), Part(study, 4, 8));
  EXPECT_EQ(first.run_ids(0), second.run_ids(0)) << "one run for both";
  EXPECT_EQ(StudyStateOf("1.2.3"), v1::STUDY_STATE_RECEIVING);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(StateOf(first.run_ids(0)), v1::RUN_STATE_QUEUED);
  const auto closed = dispatcher_->CloseStudy("1.2.3");
  ASSERT_TRUE(closed.ok());
  EXPECT_EQ(closed->state(), v1::STUDY_STATE_COMPLETE);
  EXPECT_EQ(WaitForRun(first.run_ids(0)).findings(0).voxels(), 8u);
  EXPECT_TRUE(dispatcher_->CloseStudy("1.2.3").ok()) << "closing twice is fine";
  EXPECT_EQ(base::ReasonOf(dispatcher_->CloseStudy("9.9").status()), "UNKNOWN_STUDY");
}

TEST_F(StudyTest, SettlesWhenNothingCameForAWhile) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  const auto first = MustSubmit(Parts(v1::COMPLETION_SETTLE, 1), Part(study, 0, 4));
  EXPECT_EQ(StudyStateOf("1.2.3"), v1::STUDY_STATE_SETTLING);
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  MustSubmit(Parts(v1::COMPLETION_SETTLE, 1), Part(study, 4, 8));
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_EQ(StudyStateOf("1.2.3"), v1::STUDY_STATE_SETTLING) << "the second part starts the time again";
  EXPECT_EQ(WaitForRun(first.run_ids(0)).findings(0).voxels(), 8u);
  EXPECT_EQ(StudyStateOf("1.2.3"), v1::STUDY_STATE_COMPLETE);
}

TEST_F(StudyTest, SettleTimersSurviveARestart) {
  AddModel("m", "ok");
  Start();
  const auto receipt = MustSubmit(Parts(v1::COMPLETION_SETTLE, 1), FakeStudy().Files());
  Stop();
  Start();
  EXPECT_EQ(WaitForRun(receipt.run_ids(0)).state(), v1::RUN_STATE_DONE);
}

TEST_F(StudyTest, StartsASeriesThatIsCompleteByItsExpectation) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  v1::SubmissionHeader header = Parts(v1::COMPLETION_MORE_EXPECTED);
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid(study.series_uid);
  expected.set_instances(study.slices);
  const auto receipt = MustSubmit(header, Part(study, 0, 5));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_QUEUED);
  MustSubmit(header, Part(study, 5, 8));
  EXPECT_EQ(WaitForRun(receipt.run_ids(0)).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(StudyStateOf("1.2.3"), v1::STUDY_STATE_RECEIVING);
}

TEST_F(StudyTest, MissingExpectedInstancesAreNotSilentlyAccepted) {
  AddModel("m", "ok");
  Start();
  FakeStudy study;
  v1::SubmissionHeader header = Wanting({"m"});
  v1::ExpectedSeries& expected = *header.add_expected_series();
  expected.set_series_instance_uid(study.series_uid);
  expected.set_instances(10);
  const v1::Run run = WaitForRun(MustSubmit(header, study.Files()).run_ids(0));
  EXPECT_EQ(run.flag().state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(run.coverage().target(), v1::COVERAGE_TARGET_PARTIAL);
  std::vector<std::string> codes;
  for (const v1::Reason& reason : run.coverage().reasons()) codes.push_back(reason.code());
  EXPECT_THAT(codes, ::testing::Contains("EXPECTED_INSTANCES_MISSING"));
}

TEST_F(StudyTest, LateInstancesMakeANewGeneration) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  const auto first = MustSubmit(Wanting({"m"}), Part(study, 0, 6));
  EXPECT_EQ(WaitForRun(first.run_ids(0)).findings(0).voxels(), 6u);
  const auto late = MustSubmit(Wanting({"m"}), Part(study, 6, 8));
  ASSERT_NE(late.run_ids(0), first.run_ids(0));
  const v1::Run second = WaitForRun(late.run_ids(0));
  EXPECT_EQ(second.findings(0).voxels(), 8u);
  EXPECT_EQ(second.provenance().generation(), 2u);
  const auto current = dispatcher_->GetStudy("1.2.3");
  ASSERT_THAT(current->runs(), SizeIs(1));
  EXPECT_EQ(current->runs(0).run_id(), late.run_ids(0));
  const auto changes = dispatcher_->store().ListChanges("", 100);
  bool superseded = false;
  for (const v1::FlagChange& change : changes->changes) {
    superseded = superseded ||
                 (change.kind() == v1::CHANGE_KIND_SUPERSEDED && change.flag().run_id() == first.run_ids(0));
  }
  EXPECT_TRUE(superseded);
}

TEST_F(StudyTest, LateInstancesOfAnotherSeriesLeaveTheResult) {
  AddModel("m", "ok");
  Start();
  const FakeStudy study;
  const auto first = MustSubmit(Wanting({"m"}), study.Files());
  const v1::Run before = WaitForRun(first.run_ids(0));
  FakeStudy other = study;
  other.series_uid = "1.2.3.5";
  other.modality = "MR";
  const int decoded = helpers_.frames_decoded;
  const auto late = MustSubmit(Wanting({"m"}), other.Files());
  const v1::Run after = WaitForRun(late.run_ids(0));
  EXPECT_EQ(after.provenance().input_digest(), before.provenance().input_digest());
  EXPECT_EQ(after.findings(0).tracking_uid(), before.findings(0).tracking_uid());
  EXPECT_EQ(helpers_.frames_decoded, decoded) << "the result was taken over, not computed again";
}

TEST_F(StudyTest, InstancesThatComeDuringARunGetARunOfTheirOwn) {
  AddModel("m", "slow 400");
  Start();
  const FakeStudy study;
  const auto first = MustSubmit(Wanting({"m"}), Part(study, 0, 6));
  ASSERT_TRUE(Eventually([&] { return StateOf(first.run_ids(0)) == v1::RUN_STATE_RUNNING; }));
  const auto late = MustSubmit(Wanting({"m"}), Part(study, 6, 8));
  EXPECT_EQ(WaitForRun(late.run_ids(0)).findings(0).voxels(), 8u);
  EXPECT_THAT(dispatcher_->GetStudy("1.2.3")->runs(), SizeIs(1));
}

TEST_F(StudyTest, TwoSubmittersOfOneStudyShareInstancesAndRuns) {
  AddModel("m", "slow 200");
  AddModel("n", "ok");
  Start();
  const FakeStudy study;
  std::vector<v1::SubmissionReceipt> receipts(2);
  std::vector<std::thread> submitters;
  for (int i = 0; i < 2; ++i) {
    submitters.emplace_back([&, i] {
      v1::SubmissionHeader header =
          Wanting(i == 0 ? std::vector<std::string>{"m"} : std::vector<std::string>{"m", "n"});
      header.set_priority(i == 0 ? v1::PRIORITY_ROUTINE : v1::PRIORITY_STAT);
      receipts[static_cast<std::size_t>(i)] = MustSubmit(header, study.Files());
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  EXPECT_EQ(receipts[0].instances_accepted(), 8u);
  EXPECT_EQ(receipts[1].instances_accepted(), 8u);
  EXPECT_EQ(receipts[0].instances_duplicate() + receipts[1].instances_duplicate(), 8u);
  const auto stored = dispatcher_->GetStudy("1.2.3");
  EXPECT_EQ(stored->instances(), 8u);
  EXPECT_EQ(stored->priority(), v1::PRIORITY_STAT);
  EXPECT_THAT(stored->runs(), SizeIs(2));
  EXPECT_THAT(std::vector<std::string>(receipts[1].run_ids().begin(), receipts[1].run_ids().end()),
              ::testing::Contains(receipts[0].run_ids(0)));
  for (const std::string& run_id : receipts[1].run_ids())
    EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

TEST_F(StudyTest, TheSameStudyAgainIsAnsweredByWhatIsThere) {
  AddModel("m", "ok");
  Start();
  const auto first = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  WaitForRun(first.run_ids(0));
  const auto again = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  EXPECT_EQ(again.instances_duplicate(), 8u);
  EXPECT_THAT(again.run_ids(), ElementsAre(first.run_ids(0)));
  v1::SubmissionHeader forced = Wanting({"m"});
  forced.set_force_rerun(true);
  const auto rerun = MustSubmit(forced, FakeStudy().Files());
  ASSERT_NE(rerun.run_ids(0), first.run_ids(0));
  EXPECT_EQ(WaitForRun(rerun.run_ids(0)).state(), v1::RUN_STATE_DONE);
}

TEST_F(StudyTest, CancellingStopsARunOnItsDevice) {
  AddModel("m", "slow 60000");
  Start();
  const auto receipt = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return dispatcher_->GetStudy("1.2.3")->runs(0).progress() > 0; }));
  const auto response = dispatcher_->CancelStudy("1.2.3", receipt.submission_id());
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_THAT(response->cancelled_run_ids(), ElementsAre(receipt.run_ids(0)));
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_CANCELLED);
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u);
}

TEST_F(StudyTest, CancellingStopsDecoding) {
  AddModel("m", "ok");
  Start();
  helpers_.decode_ms = 50;
  FakeStudy study;
  study.slices = 100;
  const auto receipt = MustSubmit(Wanting({"m"}), study.Files());
  ASSERT_TRUE(Eventually([&] { return helpers_.frames_decoded > 0; }));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", "").ok());
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
  EXPECT_GT(helpers_.decodes_cancelled, 0);
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_CANCELLED);
}

TEST_F(StudyTest, AStudyThatIsCancelledWhileItIsPlannedIsPlannedAnew) {
  AddModel("m", "ok");
  Start();
  helpers_.decode_ms = 40;
  std::vector<std::string> busy;  // every thread that could plan
  for (const char* uid : {"1.2.4", "1.2.5"}) {
    FakeStudy study;
    study.study_uid = uid;
    busy.push_back(MustSubmit(Wanting({"m"}), study.Files()).run_ids(0));
  }
  ASSERT_TRUE(Eventually([&] { return helpers_.frames_decoded >= 2; }));
  const FakeStudy study;
  const auto first = MustSubmit(Parts(v1::COMPLETION_MORE_EXPECTED), Part(study, 0, 4));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", "").ok());
  EXPECT_EQ(StateOf(first.run_ids(0)), v1::RUN_STATE_CANCELLED);
  const auto second = MustSubmit(Parts(v1::COMPLETION_MORE_EXPECTED), Part(study, 4, 6));
  const auto third = MustSubmit(Parts(v1::COMPLETION_FINAL), Part(study, 6, 8));
  ASSERT_EQ(second.run_ids(0), third.run_ids(0));
  const v1::Run run = WaitForRun(third.run_ids(0));
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(run.findings(0).voxels(), 8u) << "all three parts";
  for (const std::string& run_id : busy) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

TEST_F(StudyTest, ARunStopsOnlyWhenNobodyWantsIt) {
  AddModel("m", "slow 300");
  Start();
  const auto first = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  const auto second = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  ASSERT_EQ(first.run_ids(0), second.run_ids(0));
  const auto response = dispatcher_->CancelStudy("1.2.3", first.submission_id());
  ASSERT_TRUE(response.ok());
  EXPECT_THAT(response->cancelled_run_ids(), IsEmpty());
  EXPECT_EQ(WaitForRun(first.run_ids(0)).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(dispatcher_->CancelStudy("9.9", "").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StudyTest, TheSubmittersOrderOverridesTheDicom) {
  AddModel("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.mutable_order_context()->set_patient_id("HOSPITAL-7");
  header.mutable_order_context()->add_orders()->set_accession_number("A-1");
  MustSubmit(header, FakeStudy().Files());
  const auto study = dispatcher_->GetStudy("1.2.3");
  EXPECT_EQ(study->ref().patient_id(), "HOSPITAL-7");
  EXPECT_EQ(study->ref().patient_source(), v1::VALUE_SOURCE_SUBMITTER);
  ASSERT_THAT(study->ref().orders(), SizeIs(1));
  EXPECT_EQ(study->ref().orders(0).accession_number(), "A-1");
  EXPECT_EQ(study->ref().orders(0).source(), v1::VALUE_SOURCE_SUBMITTER);
}

TEST_F(StudyTest, AnIdleStudyIsReported) {
  AddModel("m", "ok");
  options_.config.set_idle_upload_ms(100);
  Start();
  MustSubmit(Parts(v1::COMPLETION_MORE_EXPECTED), FakeStudy().Files());
  EXPECT_TRUE(Eventually([&] {
    const auto study = dispatcher_->GetStudy("1.2.3");
    return study->notices_size() > 0 && study->notices(study->notices_size() - 1).code() == "STUDY_IDLE";
  }));
  const auto closed = dispatcher_->CloseStudy("1.2.3");
  ASSERT_TRUE(closed.ok());
  EXPECT_THAT(closed->notices(), IsEmpty()) << "nothing is waited for any more";
}

}  // namespace
}  // namespace tomoserve::dispatch
