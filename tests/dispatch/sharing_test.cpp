// Runs that share a device: how many, beside whom, and what a death says of them.
#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Bytes of the fake worker's models.
constexpr std::uint64_t kModelBytes = 1000 + 500;

class SharingTest : public DispatchTest {
 protected:
  std::string Submitted(const std::string& model, const std::string& study_uid,
                        v1::Priority priority = v1::PRIORITY_ROUTINE) {
    v1::SubmissionHeader header = Wanting({model});
    header.set_priority(priority);
    return MustSubmit(header, FakeStudy{.study_uid = study_uid}.Files()).run_ids(0);
  }
  std::uint64_t InFlight(v1::Priority priority) { return Activities(priority).in_flight; }
  std::uint64_t Waiting(v1::Priority priority) { return Activities(priority).waiting; }
  // The machine has so many bytes for each of `workers` beside arenas.
  void GiveEach(std::uint64_t bytes, std::uint64_t workers) {
    options_.machine_bytes = options_.config.limits().arena_bytes() + workers * bytes;
  }

 private:
  PriorityActivity Activities(v1::Priority priority) {
    auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    EXPECT_TRUE(activity.ok()) << activity.status();
    return activity.ok() ? activity->priorities[priority] : PriorityActivity();
  }
};

TEST_F(SharingTest, TwoRunsShareADeviceAndTheNextOneWaits) {
  AddModel("m", "slow 60000");
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2", "1.2.3"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  EXPECT_TRUE(Eventually([&] { return Waiting(v1::PRIORITY_ROUTINE) == 1; }));
}

TEST_F(SharingTest, AnUrgentRunFindsAPlaceBesideThem) {
  AddModel("m", "slow 60000");
  AddModel("fast", "ok");
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2", "1.2.3"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  Submitted("fast", "1.2.4", v1::PRIORITY_STAT);
  EXPECT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_STAT) == 1; }));
  EXPECT_EQ(InFlight(v1::PRIORITY_ROUTINE), 2u) << "nothing was taken from them";
}

TEST_F(SharingTest, WithoutMemoryForBothARunIsAlone) {
  AddModel("m", "slow 60000");
  options_.config.clear_devices();
  options_.config.add_devices("cuda:5");
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return Waiting(v1::PRIORITY_ROUTINE) == 1; }));
  EXPECT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 1; }));
}

TEST_F(SharingTest, RunsOfFewWindowsFillADevicesBatches) {
  AddModel("m", "quiet 60000");
  EditRecipe("m", "size: [4, 4, 4]", "size: [8, 8, 8]");  // one window each; two lanes, batches of four
  Start();
  for (int n = 0; n < 18; ++n) Submitted("m", absl::StrCat("1.2.", n + 1));
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 16; }));
  EXPECT_TRUE(Eventually([&] { return Waiting(v1::PRIORITY_ROUTINE) == 2; }));
}

TEST_F(SharingTest, ARunOfFewWindowsHasMemoryOrWaits) {
  AddModel("m", "quiet 60000");
  EditRecipe("m", "size: [4, 4, 4]", "size: [8, 8, 8]");
  GiveEach(kModelBytes + 3 * (kRunBytes - kWaitingBytes), 1);  // of one window no answer waits
  Start();
  for (int n = 0; n < 5; ++n) Submitted("m", absl::StrCat("1.2.", n + 1));
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 3; }));
  EXPECT_TRUE(Eventually([&] { return Waiting(v1::PRIORITY_ROUTINE) == 2; }));
}

TEST_F(SharingTest, WorkersOfOneMachineDivideItsMemory) {
  AddModel("m", "slow 60000");
  options_.config.add_devices("cpu");
  GiveEach(kModelBytes + kRunBytes + kRunBytes / 2, 2);
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2", "1.2.3"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  EXPECT_TRUE(Eventually([&] { return Waiting(v1::PRIORITY_ROUTINE) == 1; }));
  const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
  ASSERT_TRUE(activity.ok());
  std::uint64_t predicted = 0;
  for (const DeviceActivity& device : activity->devices) {
    EXPECT_EQ(device.memory_bytes, kModelBytes + kRunBytes + kRunBytes / 2) << device.device;
    predicted += device.predicted_bytes;
  }
  EXPECT_EQ(predicted, 2 * (kModelBytes + kRunBytes));
}

TEST_F(SharingTest, ARunThatFitsNoWorkerFailsBeforeItIsDecoded) {
  AddModel("m", "ok");
  options_.config.add_devices("cpu");
  GiveEach(kModelBytes + kRunBytes - 1, 2);  // both together have more than enough
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "RUN_TOO_LARGE");
  EXPECT_EQ(run.failure().value(), std::to_string(kRunBytes));
  EXPECT_THAT(run.failure().text(), ::testing::HasSubstr(absl::StrCat(kRunBytes - 1, " bytes")));
  EXPECT_EQ(helpers_.frames_decoded.load(), 0);
  v1::PlanStudyRequest request;
  request.set_study_instance_uid("1.2.3");
  const auto plan = dispatcher_->PlanStudy(request);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->runs(0).applicable());
  EXPECT_EQ(plan->runs(0).reasons(0).code(), "RUN_TOO_LARGE");
  EXPECT_EQ(plan->runs(0).predicted_bytes(), kModelBytes + kRunBytes);
}

TEST_F(SharingTest, ARunThatFitsToTheByteRuns) {
  AddModel("m", "ok");
  GiveEach(kModelBytes + kRunBytes, 1);
  Start();
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(SharingTest, IdleDevicesComeFirst) {
  AddModel("m", "slow 60000");
  options_.config.add_devices("cpu");
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
  ASSERT_TRUE(activity.ok());
  for (const DeviceActivity& device : activity->devices) EXPECT_EQ(device.runs, 1u) << device.device;
}

TEST_F(SharingTest, WhoSharedADeviceWithACulpritLosesNothingButTime) {
  AddModel("good", "slow 300");
  AddModel("bad", "crash");
  Start();
  const std::string good = Submitted("good", "1.2.1");
  const std::string bad = Submitted("bad", "1.2.2");
  EXPECT_EQ(WaitForRun(bad).state(), v1::RUN_STATE_QUARANTINED);
  EXPECT_EQ(WaitForRun(good).state(), v1::RUN_STATE_DONE);
  const auto stored = dispatcher_->store().GetRun(good);
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->strikes, 0u);
}

TEST_F(SharingTest, SmallerRunsDoNotGoOnBeforeOneThatIsToBeAlone) {
  const std::string times = (folder_ / "times").string();
  std::ofstream(times) << 1;
  AddModel("big", "short " + times);
  AddModel("m", "slow 200");
  options_.patience.first_memory_retry = std::chrono::milliseconds(10);
  Start();
  const std::string big = Submitted("big", "1.2.1");
  std::vector<std::string> backlog;
  for (int n = 10; n < 22; ++n) backlog.push_back(Submitted("m", absl::StrCat("1.2.", n)));
  EXPECT_EQ(WaitForRun(big).state(), v1::RUN_STATE_DONE);
  const auto open = std::count_if(backlog.begin(), backlog.end(), [&](const std::string& run_id) {
    return StateOf(run_id) != v1::RUN_STATE_DONE;
  });
  EXPECT_GE(open, 6) << "the device was kept for it";
}

TEST_F(SharingTest, ARunThatStandsStillIsSeenBesideOthersThatMove) {
  AddModel("stuck", "stuck");
  AddModel("m", "slow 300");
  options_.patience.window_stall = std::chrono::milliseconds(700);
  options_.patience.stage_stall = std::chrono::milliseconds(700);
  Start();
  const std::string stuck = Submitted("stuck", "1.2.1");
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 1; }));
  // One after the other beside it: the worker as a whole never stands still.
  std::vector<std::string> others;
  for (int n = 10; n < 22; ++n) others.push_back(Submitted("m", absl::StrCat("1.2.", n)));
  ASSERT_TRUE(Eventually([&] { return dispatcher_->store().GetRun(stuck)->suspect; }));
  EXPECT_NE(StateOf(others.back()), v1::RUN_STATE_DONE) << "before the others were through";
  EXPECT_EQ(WaitForRun(stuck).state(), v1::RUN_STATE_QUARANTINED);
  for (const std::string& run_id : others) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
}

TEST_F(SharingTest, LessUrgentRunsTakeNoPlace) {
  AddModel("m", "slow 60000");
  Start();
  for (const char* study_uid : {"1.2.1", "1.2.2"}) Submitted("m", study_uid);
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  for (const char* study_uid : {"1.2.3", "1.2.4"}) Submitted("m", study_uid, v1::PRIORITY_STAT);
  EXPECT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_STAT) == 2; }));
}

TEST_F(SharingTest, OneIsCancelledAndTheOtherGoesOn) {
  AddModel("m", "slow 300");
  Start();
  const std::string first = Submitted("m", "1.2.1");
  const std::string second = Submitted("m", "1.2.2");
  ASSERT_TRUE(Eventually([&] { return InFlight(v1::PRIORITY_ROUTINE) == 2; }));
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.2", "").ok());
  EXPECT_EQ(WaitForRun(second).state(), v1::RUN_STATE_CANCELLED);
  EXPECT_EQ(WaitForRun(first).state(), v1::RUN_STATE_DONE);
}

}  // namespace
}  // namespace tomoserve::dispatch
