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
  static FakeStudy Another() {
    FakeStudy study;
    study.study_uid = "1.2.4";
    return study;
  }
  v1::DeviceReadiness ReadinessOf(const std::string& model, std::size_t device = 0) {
    for (const ModelStatus& status : dispatcher_->Models()) {
      if (status.model->name == model && status.devices.size() > device) return status.devices[device];
    }
    return {};
  }

 private:
  std::string counter() const { return (folder_ / "times").string(); }
};

class DeviceLossTest : public RecoveryTest {
 protected:
  // As many models as it takes to see that the device cuda:1 is what is broken.
  void AddBrokenLoads() {
    for (const char* name : {"a", "b", "c"}) AddModel(name, "lost_on cuda:1");
  }
};

TEST_F(DeviceLossTest, ARunThatWasInFlightIsTriedAgain) {
  AddModel("m", "lost " + Times(1));
  Start();
  const v1::Run run = RunOf("m");
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE);
  const auto stored = dispatcher_->store().GetRun(run.run_id());
  EXPECT_EQ(stored->strikes, 1u) << "it was alone";
  EXPECT_TRUE(stored->suspect);
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 1u);
  EXPECT_FALSE(IsLost(0));
}

TEST_F(DeviceLossTest, ARunThatLosesItsOnlyDeviceIsQuarantinedAndTheServerGoesOn) {
  AddModel("poison", "lost " + Times(100));
  AddModel("good", "ok");
  UseDevices({"cuda:0"});
  Start();
  const v1::Run run = RunOf("poison");
  EXPECT_EQ(run.state(), v1::RUN_STATE_QUARANTINED);
  EXPECT_EQ(run.failure().code(), "QUARANTINED");
  EXPECT_EQ(run.failure().value(), "2");
  EXPECT_EQ(TimesLeft(), 98);
  EXPECT_EQ(RunOf("good", Another()).state(), v1::RUN_STATE_DONE);
  EXPECT_FALSE(IsLost(0));
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 2u);
  EXPECT_TRUE(Eventually([&] { return dispatcher_->ready(); }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_TRUE(dispatcher_->CheckDevices().ok());
}

TEST_F(DeviceLossTest, RunsThatLoseASharedDeviceTakeItNoSoonerThanAlone) {
  AddModel("good", "slow 300");
  AddModel("poison", "lost_at_once " + Times(100));
  UseDevices({"cuda:0"});
  Start();
  const auto submitted = [&](const std::string& model, const std::string& study_uid) {
    return MustSubmit(Wanting({model}), FakeStudy{.study_uid = study_uid}.Files()).run_ids(0);
  };
  for (const std::string uid : {"1.2.1", "1.2.2"}) {
    const std::string good = submitted("good", uid + ".1");
    ASSERT_TRUE(Eventually([&] {
      return dispatcher_->Observe(std::chrono::seconds(5))->priorities[v1::PRIORITY_ROUTINE].in_flight == 1;
    }));
    const std::string poison = submitted("poison", uid + ".2");
    EXPECT_EQ(WaitForRun(poison).state(), v1::RUN_STATE_QUARANTINED);
    EXPECT_EQ(WaitForRun(good).state(), v1::RUN_STATE_DONE);
  }
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 6u) << "each was lost once under both, and twice under one";
  EXPECT_FALSE(IsLost(0));
}

TEST_F(DeviceLossTest, ALossUnderDifferentRunsIsTheDevices) {
  AddModel("m", "lost_in cuda:1");
  UseDevices({"cuda:1"});
  Start();
  FakeStudy study;
  for (const char* uid : {"1.2.1", "1.2.2"}) {
    study.study_uid = uid;
    EXPECT_EQ(RunOf("m", study).state(), v1::RUN_STATE_QUARANTINED);
    EXPECT_FALSE(IsLost(0));
  }
  study.study_uid = "1.2.3";
  const std::string run_id = MustSubmit(Wanting({"m"}), study.Files()).run_ids(0);
  EXPECT_TRUE(Eventually([&] { return IsLost(0); }));
  EXPECT_EQ(StateOf(run_id), v1::RUN_STATE_QUEUED) << "it goes on where there is a device";
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 4u) << "after the last of five losses no worker is started";
}

TEST_F(DeviceLossTest, AModelThatLosesEveryDeviceAsItLoadsIsRefusedAndTheOthersAreServed) {
  AddModel("bomb", "lost_on any");
  AddModel("good", "ok");
  UseDevices({"cuda:0", "cuda:1"});
  Start();
  for (const std::size_t device : {0u, 1u}) {
    EXPECT_EQ(ReadinessOf("bomb", device).readiness(), v1::MODEL_READINESS_REFUSED);
    EXPECT_EQ(ReadinessOf("bomb", device).reason().code(), "LOAD_CRASHED");
    EXPECT_EQ(ReadinessOf("good", device).readiness(), v1::MODEL_READINESS_WARM);
    EXPECT_EQ(dispatcher_->Devices()[device].restarts, 2u);
  }
  EXPECT_EQ(RunOf("bomb").failure().code(), "MODEL_REFUSED");
  EXPECT_EQ(RunOf("good", Another()).state(), v1::RUN_STATE_DONE);
  EXPECT_TRUE(dispatcher_->CheckDevices().ok());
}

TEST_F(DeviceLossTest, AModelThatLostItsDeviceOnceIsLoadedAgain) {
  AddModel("m", "lost_load " + Times(1));
  Start();
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 1u);
  EXPECT_EQ(RunOf("m").state(), v1::RUN_STATE_DONE);
}

TEST_F(DeviceLossTest, ARunBesideAModelThatLosesTheDeviceIsNotToBlame) {
  AddModel("a_good", "ok");
  AddModel("b_bomb", "lost_later 500");
  UseDevices({"cuda:0"});
  Start(/*wait_until_ready=*/false);
  // On the device while the other model is loaded, for the first time.
  const v1::Run run = RunOf("a_good");
  EXPECT_EQ(run.state(), v1::RUN_STATE_DONE) << run.failure().ShortDebugString();
  EXPECT_EQ(dispatcher_->store().GetRun(run.run_id())->strikes, 0u);
  EXPECT_TRUE(Eventually([&] { return dispatcher_->ready(); }));
  EXPECT_EQ(ReadinessOf("b_bomb").reason().code(), "LOAD_CRASHED");
  EXPECT_EQ(ReadinessOf("b_bomb").reason().value(), "2") << "losses while nothing was beside it";
  EXPECT_FALSE(IsLost(0));
}

TEST_F(DeviceLossTest, AfterALossTheRunIsAlone) {
  AddModel("a", "lost " + Times(1));
  // Would not be loaded a second time if anything came meanwhile.
  AddModel("z", "lonely_load " + (folder_ / "none").string());
  options_.patience.max_memory_tries = 1;
  Start();
  EXPECT_EQ(RunOf("a").state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(ReadinessOf("z").readiness(), v1::MODEL_READINESS_WARM);
}

TEST_F(DeviceLossTest, ADeviceThatIsLostAgainAndAgainIsGivenUpAndTheOthersGoOn) {
  AddBrokenLoads();
  UseDevices({"cuda:0", "cuda:1"}, 1);
  Start();
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  const DeviceInfo lost = dispatcher_->Devices()[1];
  EXPECT_EQ(lost.unusable.value(), "3");
  EXPECT_EQ(lost.restarts, 2u) << "the third time none was started";
  EXPECT_FALSE(lost.ready);
  EXPECT_EQ(ReadinessOf("c", 1).reason().code(), "DEVICE_LOST");
  EXPECT_NE(ReadinessOf("c", 1).readiness(), v1::MODEL_READINESS_REFUSED);
  EXPECT_EQ(RunOf("c").state(), v1::RUN_STATE_DONE);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_TRUE(dispatcher_->ready());
  EXPECT_TRUE(dispatcher_->CheckDevices().ok());
  EXPECT_EQ(dispatcher_->Devices()[1].restarts, 2u);
  EXPECT_THAT(Workers(), SizeIs(1));
}

TEST_F(DeviceLossTest, WhereTooFewDevicesAreLeftTheServerSaysWhyAndEnds) {
  AddBrokenLoads();
  UseDevices({"cuda:0", "cuda:1"});
  Start(/*wait_until_ready=*/false);
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  EXPECT_EQ(dispatcher_->NotReady(), "DEVICE_LOST");
  ASSERT_TRUE(Eventually([&] { return !dispatcher_->CheckDevices().ok(); }));
  EXPECT_EQ(base::ValueOf(dispatcher_->CheckDevices()), "cuda:1");
  EXPECT_THAT(dispatcher_->CheckDevices().ToString(), HasSubstr("cuda:1: DEVICE_LOST (3)"));
}

TEST_F(DeviceLossTest, WhereEnoughDevicesAreLeftALostOneIsNotTheReason) {
  AddBrokenLoads();
  AddModel("d", "stall_load");
  UseDevices({"cuda:0", "cuda:1"}, 1);
  Start(/*wait_until_ready=*/false);
  ASSERT_TRUE(Eventually([&] { return IsLost(1); }));
  EXPECT_EQ(dispatcher_->NotReady(), "STARTING") << "it waits for the other one's models";
}

TEST_F(DeviceLossTest, LossesLongAgoDoNotCount) {
  AddBrokenLoads();
  UseDevices({"cuda:1"});
  options_.patience.device_loss_window = std::chrono::milliseconds(1);
  Start();
  EXPECT_FALSE(IsLost(0));
  EXPECT_EQ(dispatcher_->Devices()[0].restarts, 6u);
  EXPECT_EQ(ReadinessOf("c").reason().code(), "LOAD_CRASHED");
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
  // Loaded in the order of their names: the lost device never sees the last one.
  AddBrokenLoads();
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
  EXPECT_EQ(run.failure().value(), std::to_string(8 * 6 * 8 * 2 * 4 + kWaitingBytes));
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
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_ON_DEMAND)
      << "the other one's room is not its own";
  EXPECT_EQ(RunOf("m").failure().value(), "OUT_OF_MEMORY");
  EXPECT_EQ(TimesLeft(), 96) << "once more, alone";
  EXPECT_EQ(ReadinessOf("m").readiness(), v1::MODEL_READINESS_REFUSED);
  EXPECT_EQ(ReadinessOf("m").reason().code(), "OUT_OF_MEMORY");
  EXPECT_THAT(ReadinessOf("m").reason().text(), HasSubstr("4 times"));
  FakeStudy study;
  study.study_uid = "1.2.4";
  EXPECT_EQ(RunOf("good", study).state(), v1::RUN_STATE_DONE);
}

TEST_F(ShortageTest, AModelThatIsLoadedAgainHasTheDeviceForItself) {
  AddModel("big", "lonely_load " + Times(1));
  AddModel("slow", "slow 1500");
  options_.patience.max_memory_tries = 2;
  options_.patience.first_memory_retry = std::chrono::milliseconds(700);
  Start(/*wait_until_ready=*/false);
  // It waits for the end of the two runs that share the device, and the third one, decoded by then, waits for
  // it.
  std::vector<std::string> runs;
  for (const char* study_uid : {"1.2.3", "1.2.4", "1.2.5"}) {
    runs.push_back(MustSubmit(Wanting({"slow"}), FakeStudy{.study_uid = study_uid}.Files()).run_ids(0));
  }
  for (const std::string& run_id : runs) EXPECT_EQ(WaitForRun(run_id).state(), v1::RUN_STATE_DONE);
  EXPECT_EQ(ReadinessOf("big").readiness(), v1::MODEL_READINESS_WARM);
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
