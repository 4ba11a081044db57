// What is tried again before it is final: devices that are lost, runs and models that memory does not suffice
// for.
#include <fstream>
#include <thread>

#include "dispatch/fixture.h"
#include "dispatch/planning.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class RecoveryTest : public DispatchTest {
 protected:
  RecoveryTest() { options_.patience.first_memory_retry = std::chrono::milliseconds(10); }

  // A file that makes a script happen so many times, for its argument.
  std::string Times(int times) {
    std::ofstream(counter()) << times;
    return counter();
  }
  int TimesLeft() {
    int left = -1;
    std::ifstream(counter()) >> left;
    return left;
  }
  void UseDevices(const std::vector<std::string>& devices, std::uint32_t min_devices = 0) {
    options_.config.mutable_devices()->Assign(devices.begin(), devices.end());
    options_.config.set_min_devices(min_devices);
    options_.config.set_device_grace_ms(200);
  }
  bool IsLost(std::size_t device) { return dispatcher_->Devices()[device].unusable.code() == "DEVICE_LOST"; }
  v1::DeviceReadiness ReadinessOf(const std::string& model, std::size_t device = 0) {
    for (const ModelStatus& status : dispatcher_->Models()) {
      if (status.model->name == model && status.devices.size() > device) return status.devices[device];
    }
    return {};
  }

 private:
  std::string counter() const { return (folder_ / "times").string(); }
};

class DeviceLossTest : public RecoveryTest {};

TEST_F(DeviceLossTest, ARunThatWasInFlightIsTriedAgainWithoutAStrike) {
  AddModel("m", "lost " + Times(2));
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  const auto stored = dispatcher_->store().GetRun(run.run_id());
  EXPECT_EQ(stored->strikes, 0u);
  EXPECT_FALSE(stored->suspect);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 2u);
  EXPECT_FALSE(IsLost(0));
}

TEST_F(DeviceLossTest, AModelThatWasBeingLoadedIsNotToBlame) {
  AddModel("m", "lost_load " + Times(2));
  Start();
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 2u);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(DeviceLossTest, ADeviceThatIsLostAgainAndAgainIsGivenUpAndTheOthersGoOn) {
  AddModel("m", "lost_on cuda:1");
  UseDevices({"cuda:0", "cuda:1"}, 1);
  Start();
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  const DeviceInfo lost = dispatcher_->Devices()[1];
  EXPECT_EQ(lost.unusable.value(), "3");
  EXPECT_EQ(lost.restarts, 3u);
  EXPECT_FALSE(lost.ready);
  EXPECT_EQ(ReadinessOf("m", 1).reason().code(), "DEVICE_LOST");
  EXPECT_NE(ReadinessOf("m", 1).readiness(), v1::MODEL_READINESS_REFUSED);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_TRUE(dispatcher_->ready());
  EXPECT_TRUE(dispatcher_->CheckDevices().ok());
  EXPECT_EQ(dispatcher_->Devices()[1].restarts, 3u) << "no other worker was started for it";
  EXPECT_THAT(Workers(), SizeIs(1));
}

TEST_F(DeviceLossTest, WhereTooFewDevicesAreLeftTheServerSaysWhyAndEnds) {
  AddModel("m", "lost_on cuda:1");
  UseDevices({"cuda:0", "cuda:1"});
  Start(/*wait_until_ready=*/false);
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  EXPECT_EQ(dispatcher_->NotReady(), "DEVICE_LOST");
  ASSERT_TRUE(Eventually([&] { return !dispatcher_->CheckDevices().ok(); }));
  EXPECT_EQ(base::ValueOf(dispatcher_->CheckDevices()), "cuda:1");
  EXPECT_THAT(dispatcher_->CheckDevices().ToString(), HasSubstr("cuda:1: DEVICE_LOST (3)"));
}

TEST_F(DeviceLossTest, LossesLongAgoDoNotCount) {
  AddModel("m", "lost_load " + Times(5));
  options_.patience.device_loss_window = std::chrono::milliseconds(1);
  Start();
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 5u);
}

TEST_F(DeviceLossTest, ARunThatLosesEveryDeviceFailsInTheEnd) {
  AddModel("m", "lost " + Times(100));
  AddModel("good", "ok");
  options_.patience.device_loss_window = std::chrono::milliseconds(1);
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "DEVICE_LOST");
  EXPECT_EQ(run.failure().value(), "3");
  EXPECT_EQ(TimesLeft(), 97);
  EXPECT_EQ(dispatcher_->store().GetRun(run.run_id())->strikes, 0u);
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
}

TEST_F(DeviceLossTest, TheNextTryIsOnAnotherDevice) {
  AddModel("m", "lost_in cuda:1");
  AddModel("slow", "slow 1500");
  UseDevices({"cuda:0", "cuda:1"});
  Start();
  FakeStudy other;
  other.study_uid = "1.2.4";
  MustSubmit(Wanting({"slow"}), other.Files());
  ASSERT_TRUE(Eventually([&] { return dispatcher_->GetStudy("1.2.4")->runs(0).progress() > 0; }));
  // The second device is up again long before the first one is free.
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u);
  EXPECT_EQ(dispatcher_->Devices()[1].restarts, 1u);
}

TEST_F(DeviceLossTest, ALostDeviceKeepsNoRunWaitingForAModelThatTheOthersRefused) {
  // Loaded in the order of their names: the lost device never sees the second one.
  AddModel("a", "lost_on cuda:1");
  AddModel("z", "refuse");
  UseDevices({"cuda:0", "cuda:1"}, 1);
  Start();
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  EXPECT_EQ(RunOf("z").failure().code(), "MODEL_REFUSED");
}

class ShortageTest : public RecoveryTest {};

TEST_F(ShortageTest, ARunThatDidNotFitIsDecodedAndTriedAgain) {
  AddModel("m", "short " + Times(2));
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(helpers_.frames_decoded, 3 * 8) << "a failed try may have written to label map and arena";
  EXPECT_EQ(dispatcher_->store().GetRun(run.run_id())->strikes, 0u);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 0u);
}

TEST_F(ShortageTest, ARunThatNeverFitsFailsWithTheNumber) {
  AddModel("m", "short " + Times(100));
  AddModel("good", "ok");
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_FAILED);
  EXPECT_EQ(run.failure().code(), "OUT_OF_MEMORY");
  // Sums, weights, prepared volume and labels of 8 x 6 x 8 voxels.
  EXPECT_EQ(run.failure().value(), std::to_string(8 * 6 * 8 * (3 * 4 + 2)));
  EXPECT_THAT(run.failure().text(), HasSubstr("3 times"));
  EXPECT_EQ(TimesLeft(), 97);
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
  EXPECT_TRUE(Eventually([this] { return dispatcher_->host_bytes_used() == 0; }));
}

TEST_F(ShortageTest, OthersRunWhileItWaits) {
  AddModel("m", "short " + Times(1));
  AddModel("good", "ok");
  options_.patience.first_memory_retry = std::chrono::hours(1);
  Start();
  const auto receipt = MustSubmit(Wanting({"m"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return TimesLeft() == 0; }));
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_RUNNING);
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", receipt.submission_id()).ok());
  EXPECT_EQ(StateOf(receipt.run_ids(0)), v1::RUN_STATE_CANCELLED);
}

TEST_F(ShortageTest, AModelThatDidNotFitIsLoadedAgain) {
  AddModel("m", "short_load " + Times(2));
  Start();
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_WARM);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(ShortageTest, AModelThatNeverFitsIsRefusedAndTheOthersAreServed) {
  AddModel("m", "short_load " + Times(100));
  AddModel("good", "ok");
  Start();
  EXPECT_EQ(TimesLeft(), 97);
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_REFUSED);
  EXPECT_EQ(ReadinessOf("m").reason().code(), "OUT_OF_MEMORY");
  EXPECT_THAT(ReadinessOf("m").reason().text(), HasSubstr("3 times"));
  EXPECT_EQ(RunOf("m").failure().value(), "OUT_OF_MEMORY");
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
}

TEST_F(ShortageTest, AModelIsLoadedAgainOnlyWhenNoRunIsInFlight) {
  AddModel("big", "short_load " + Times(1));
  AddModel("slow", "slow 600000");
  options_.patience.first_memory_retry = std::chrono::milliseconds(2500);
  Start(/*wait_until_ready=*/false);
  const auto receipt = MustSubmit(Wanting({"slow"}), FakeStudy().Files());
  ASSERT_TRUE(Eventually([&] { return dispatcher_->GetStudy("1.2.3")->runs(0).progress() > 0; }));
  EXPECT_EQ(ReadinessOf("big").readiness(), v1::MODEL_READINESS_COLD);
  std::this_thread::sleep_for(std::chrono::milliseconds(3000));
  EXPECT_EQ(ReadinessOf("big").readiness(), v1::MODEL_READINESS_COLD);
  ASSERT_TRUE(dispatcher_->CancelStudy("1.2.3", receipt.submission_id()).ok());
  EXPECT_TRUE(Eventually([&] { return ReadinessOf("big").readiness() == v1::MODEL_READINESS_WARM; }));
}

}  // namespace
}  // namespace tomoserve::dispatch
