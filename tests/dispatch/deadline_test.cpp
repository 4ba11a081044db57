// Deadlines that pass, and urgency that changes while a run is open.
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>

#include "dispatch/fixture.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

google::protobuf::Timestamp FromNow(std::int64_t ms) {
  const std::int64_t us = base::NowUs() + ms * 1000;
  google::protobuf::Timestamp time;
  time.set_seconds(us / 1000000);
  time.set_nanos(static_cast<std::int32_t>(us % 1000000) * 1000);
  return time;
}

class DeadlineTest : public DispatchTest {
 protected:
  void AddModelThatStops(const std::string& name, const std::string& script) {
    AddModel(name, script);
    EditRecipe(name, "findings", "when_late: WHEN_LATE_STOP findings");
  }
  std::string Submitted(const std::string& model, const std::string& study_uid,
                        v1::Priority priority = v1::PRIORITY_ROUTINE, std::int64_t deadline_ms = 0) {
    v1::SubmissionHeader header = Wanting({model});
    header.set_priority(priority);
    if (deadline_ms != 0) *header.mutable_deadline() = FromNow(deadline_ms);
    return MustSubmit(header, FakeStudy{.study_uid = study_uid}.Files()).run_ids(0);
  }
  std::uint64_t InFlight() {
    auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    EXPECT_TRUE(activity.ok()) << activity.status();
    std::uint64_t runs = 0;
    for (const auto& [priority, of] : activity->priorities) runs += of.in_flight;
    return runs;
  }
  void ExpectLate(const std::string& run_id) {
    const v1::Run run = WaitForRun(run_id);
    EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
    EXPECT_EQ(run.failure().code(), "DEADLINE_EXPIRED");
  }
  absl::Status Update(const std::string& study_uid, v1::Priority priority, std::int64_t deadline_ms = 0) {
    v1::UpdateStudyRequest request;
    request.set_study_instance_uid(study_uid);
    request.set_priority(priority);
    if (deadline_ms != 0) *request.mutable_deadline() = FromNow(deadline_ms);
    return dispatcher_->UpdateStudy(request).status();
  }
};

TEST_F(DeadlineTest, ARunningRunEndsAndItsMemoryIsFree) {
  AddModelThatStops("m", "slow 60000");
  AddModel("fast", "ok");
  Start();
  ExpectLate(Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 400));
  EXPECT_TRUE(Eventually([&] { return InFlight() == 0 && dispatcher_->host_bytes_used() == 0; }));
  EXPECT_EQ(WaitForRun(Submitted("fast", "1.2.2")).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeadlineTest, AQueuedRunEnds) {
  AddModelThatStops("m", "slow 60000");
  Start();
  Submitted("m", "1.2.1");
  Submitted("m", "1.2.2");
  ASSERT_TRUE(Eventually([&] { return InFlight() == 2; }));
  ExpectLate(Submitted("m", "1.2.3", v1::PRIORITY_ROUTINE, 300));
  EXPECT_EQ(InFlight(), 2u) << "the others go on";
}

TEST_F(DeadlineTest, ARunOfAnIncompleteStudyEnds) {
  AddModelThatStops("m", "ok");
  Start();
  v1::SubmissionHeader header = Wanting({"m"});
  header.set_completion(v1::COMPLETION_SETTLE);
  header.set_settle_seconds(600);
  *header.mutable_deadline() = FromNow(300);
  ExpectLate(MustSubmit(header, FakeStudy().Files()).run_ids(0));
}

TEST_F(DeadlineTest, WithoutTheWishALateAnswerIsAnAnswer) {
  AddModel("m", "slow 600");
  Start();
  EXPECT_EQ(WaitForRun(Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 100)).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeadlineTest, ALaterDeadlineLetsARunGoOn) {
  AddModelThatStops("m", "slow 4000");
  Start();
  const std::string run_id = Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 3000);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  ASSERT_TRUE(Update("1.2.1", v1::PRIORITY_UNSPECIFIED, 3600000).ok());
  EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeadlineTest, ADeadlineMovedAfterItPassedLetsARunThatIsLetGoRunAgain) {
  AddModelThatStops("m", "heavy 3000");
  options_.patience.cancel = std::chrono::milliseconds(2000);
  Start();
  const auto passed = std::chrono::steady_clock::now() + std::chrono::milliseconds(1700);
  const std::string run_id = Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 1500);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  std::this_thread::sleep_until(passed);
  ASSERT_TRUE(Update("1.2.1", v1::PRIORITY_UNSPECIFIED, 3600000).ok());
  EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u) << "the first cancellation is not the second run's";
}

TEST_F(DeadlineTest, ADeadlineMovedAfterItPassedLetsARunThatIsDoneBeDone) {
  AddModelThatStops("m", "deaf 3000");
  Start();
  const auto passed = std::chrono::steady_clock::now() + std::chrono::milliseconds(1700);
  const std::string run_id = Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 1500);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  std::this_thread::sleep_until(passed);
  ASSERT_TRUE(Update("1.2.1", v1::PRIORITY_UNSPECIFIED, 3600000).ok());
  EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeadlineTest, ADeadlineThatComesLaterEndsARun) {
  AddModelThatStops("m", "slow 60000");
  Start();
  const std::string run_id = Submitted("m", "1.2.1");
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  ASSERT_TRUE(Update("1.2.1", v1::PRIORITY_UNSPECIFIED, 100).ok());
  ExpectLate(run_id);
}

TEST_F(DeadlineTest, ADeadlineIsKeptOverARestart) {
  AddModelThatStops("m", "slow 60000");
  Start();
  const std::string run_id = Submitted("m", "1.2.1", v1::PRIORITY_ROUTINE, 1500);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 1; }));
  Stop();
  Start(false);
  ExpectLate(run_id);
}

TEST_F(DeadlineTest, AnotherPriorityMovesARunOnItsDevice) {
  AddModel("first", "slow 2000");
  AddModel("m", "slow 1000");
  Start();
  Submitted("first", "1.2.1");
  const std::string late = Submitted("m", "1.2.2");
  ASSERT_TRUE(Eventually([&] { return InFlight() == 2; }));
  const std::string urgent = Submitted("m", "1.2.3", v1::PRIORITY_URGENT);
  ASSERT_TRUE(Eventually([&] { return InFlight() == 3; }));
  ASSERT_TRUE(Update("1.2.2", v1::PRIORITY_STAT).ok());
  EXPECT_EQ(dispatcher_->GetStudy("1.2.2")->priority(), v1::PRIORITY_STAT);
  EXPECT_EQ(WaitForRun(late).state(), v1::RUN_STATE_DONE);
  EXPECT_NE(StateOf(urgent), v1::RUN_STATE_DONE) << "it was before the other one";
  EXPECT_EQ(WaitForRun(urgent).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeadlineTest, AnUpdateThatCannotBeSaysWhichField) {
  AddModel("m", "ok");
  Start();
  WaitForRun(Submitted("m", "1.2.1"));
  v1::UpdateStudyRequest request;
  request.set_study_instance_uid("1.2.1");
  request.set_priority(static_cast<v1::Priority>(77));
  EXPECT_EQ(base::ValueOf(dispatcher_->UpdateStudy(request).status()), "priority");
  request.clear_priority();
  request.mutable_deadline()->set_seconds(-5);
  EXPECT_EQ(base::ValueOf(dispatcher_->UpdateStudy(request).status()), "deadline");
  EXPECT_EQ(base::ReasonOf(Update("1.2.99", v1::PRIORITY_STAT)), "UNKNOWN_STUDY");
}

}  // namespace
}  // namespace tomoserve::dispatch
