// Which devices there are, and what happens when they cannot be used.
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "dispatch/device_names.h"
#include "dispatch/devices.h"
#include "dispatch/fixture.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ExpandDevicesTest : public ::testing::Test {
 protected:
  ExpandDevicesTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tomoserve-dev-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~ExpandDevicesTest() override { std::filesystem::remove_all(folder_); }
  void AddFiles(const std::vector<std::string>& names) {
    for (const std::string& name : names) std::ofstream(folder_ / name) << "";
  }
  std::vector<std::string> Expand(const std::vector<std::string>& devices,
                                  std::optional<std::string_view> visible = std::nullopt) {
    return ExpandDevices(devices, folder_.string(), visible);
  }

 private:
  std::filesystem::path folder_;
};

TEST_F(ExpandDevicesTest, AutoIsTheCpuOnlyWithoutAnyNvidiaFile) {
  AddFiles({"null", "dri"});
  EXPECT_THAT(Expand({"auto"}), ElementsAre("cpu"));
}

TEST_F(ExpandDevicesTest, GpusThatWereAskedForAndAreNotThereAreNotLeftOut) {
  AddFiles({"null"});
  EXPECT_THAT(Expand({"cuda:all"}), ElementsAre("cuda:0"));
  EXPECT_THAT(Expand({"cpu", "cuda:all"}), ElementsAre("cpu", "cuda:0"));
}

TEST_F(ExpandDevicesTest, AutoTakesEveryGpuCountedAsCudaCounts) {
  // What a container sees that was given the host's GPUs 1 and 3.
  AddFiles({"nvidia1", "nvidia3", "nvidiactl", "nvidia-uvm", "null"});
  EXPECT_THAT(Expand({"auto"}), ElementsAre("cuda:0", "cuda:1"));
  EXPECT_THAT(Expand({"cuda:all"}), ElementsAre("cuda:0", "cuda:1"));
  EXPECT_THAT(Expand({"cpu", "cuda:1"}), ElementsAre("cpu", "cuda:1"));
}

TEST_F(ExpandDevicesTest, GpusThatCudaMayNotShowAreNotCounted) {
  AddFiles({"nvidia0", "nvidia1", "nvidia2"});
  EXPECT_THAT(Expand({"cuda:all"}, "2"), ElementsAre("cuda:0"));
  EXPECT_THAT(Expand({"cuda:all"}, "GPU-a,GPU-b"), ElementsAre("cuda:0", "cuda:1"));
  EXPECT_THAT(Expand({"cuda:all"}, ""), ElementsAre("cuda:0"));
  EXPECT_THAT(Expand({"auto"}, ""), ElementsAre("cuda:0")) << "which then says that it is hidden";
}

TEST_F(ExpandDevicesTest, ADriverWithoutAGpuIsNoReasonForTheCpu) {
  AddFiles({"nvidiactl"});
  EXPECT_THAT(Expand({"auto"}), ElementsAre("cuda:0"));
}

// cuda:7 says why it cannot be used, cuda:8 just ends (fake_worker.cpp).
class DeviceTest : public DispatchTest {
 protected:
  void StartOn(const std::vector<std::string>& devices, std::uint32_t min_devices = 0) {
    AddModel("m", "ok");
    options_.config.mutable_devices()->Assign(devices.begin(), devices.end());
    options_.config.set_min_devices(min_devices);
    options_.config.set_device_grace_ms(400);
    Start(/*wait_until_ready=*/false);
  }
};

TEST_F(DeviceTest, ADeviceThatCannotBeUsedKeepsTheServerFromServing) {
  ASSERT_EQ(::setenv("CUDA_VISIBLE_DEVICES", "7", 1), 0);
  StartOn({"cpu", "cuda:7"});
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  EXPECT_TRUE(dispatcher_->CheckDevices().ok()) << "not before the grace time is over";
  ASSERT_TRUE(Eventually([&] { return !dispatcher_->CheckDevices().ok(); }));
  EXPECT_FALSE(dispatcher_->ready()) << "the CPU does not stand in";
  EXPECT_EQ(dispatcher_->NotReady(), "DEVICE_UNAVAILABLE");
  const absl::Status status = dispatcher_->CheckDevices();
  EXPECT_EQ(base::ReasonOf(status), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(status), "cuda:7");
  EXPECT_THAT(status.ToString(), HasSubstr("cuda:7: DEVICE_UNSUPPORTED (sm_61)"));
  const std::vector<DeviceInfo> infos = dispatcher_->Devices();
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_EQ(infos[0].unusable.code(), "");
  EXPECT_EQ(infos[1].unusable.code(), "DEVICE_UNSUPPORTED");
  // One lane, threads of its own, and the lock that all servers of the host share.
  EXPECT_THAT(infos[1].unusable.text(), HasSubstr("--device cuda:7 --lanes 1 --threads "));
  EXPECT_THAT(infos[1].unusable.text(), HasSubstr("--lock-dir"));
  EXPECT_THAT(infos[1].unusable.text(), ::testing::StartsWith("sees 7"));
}

TEST_F(DeviceTest, AWorkerThatEndsWithoutAWordIsUnusableToo) {
  StartOn({"cuda:8"});
  ASSERT_TRUE(Eventually([&] { return !dispatcher_->CheckDevices().ok(); }));
  EXPECT_THAT(dispatcher_->CheckDevices().ToString(), HasSubstr("exit code 1"));
}

TEST_F(DeviceTest, WhatItsWorkersComputedIsAddedUp) {
  StartOn({"cpu"});
  // Each life of the worker says 3 windows in 4 places, in 2 seconds.
  const auto computed = [&](std::uint64_t lives) {
    const auto activity = dispatcher_->Observe(std::chrono::seconds(5));
    if (!activity.ok()) return false;
    const DeviceActivity& device = activity->devices[0];
    return device.batch_windows == 3 * lives && device.batch_slots == 4 * lives &&
           device.busy_seconds == 2.0 * static_cast<double>(lives);
  };
  ASSERT_TRUE(Eventually([&] { return dispatcher_->ready() && computed(1); }));
  ASSERT_EQ(::kill(WaitForWorker(), SIGKILL), 0);
  EXPECT_TRUE(Eventually([&] { return computed(2); })) << "a counter does not fall";
}

TEST_F(DeviceTest, ProvedSizesOfBatchesAreKeptOverARestartForTheSameDevice) {
  const std::string said = (folder_ / "said").string();
  AddModel("p", "proof " + said);
  const auto said_on = [&](const std::string& device) {
    options_.config.clear_devices();
    options_.config.add_devices(device);
    std::filesystem::remove(said);
    Start();
    Stop();
    std::string text;
    std::ifstream(said) >> text;
    return text;
  };
  EXPECT_EQ(said_on("cuda:0"), "n");
  EXPECT_EQ(said_on("cuda:0"), "k");
  EXPECT_EQ(said_on("cuda:1"), "k") << "of the same kind";
  EXPECT_EQ(said_on("cuda:4"), "n") << "with another driver";
  options_.build = "0.0.0+other";
  EXPECT_EQ(said_on("cuda:0"), "n") << "another server: its own code decides bits, too";
  EditRecipe("p", "overlap: 0.25", "overlap: 0.5");
  EXPECT_EQ(said_on("cuda:0"), "n") << "another recipe";
  std::ofstream(folder_ / "data" / "bucket_proofs.txt") << "nonsense 1,2,x 4";
  EXPECT_EQ(said_on("cuda:0"), "n") << "a file that cannot be read is none";
}

TEST_F(DeviceTest, TheSizesOfItsBatchesAreShown) {
  StartOn({"cpu"});
  ASSERT_TRUE(Eventually([&] { return dispatcher_->ready(); }));
  EXPECT_THAT(dispatcher_->Models()[0].devices[0].buckets(), ElementsAre(1, 2, 4));
}

TEST_F(DeviceTest, EnoughDevicesServeWithoutTheOthers) {
  StartOn({"cpu", "cuda:7"}, 1);
  ASSERT_TRUE(Eventually([&] { return dispatcher_->ready(); }));
  EXPECT_EQ(WaitForRun(MustSubmit(Wanting({"m"}), FakeStudy().Files()).run_ids(0)).state(),
            v1::RUN_STATE_DONE);
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_TRUE(dispatcher_->CheckDevices().ok());
  EXPECT_TRUE(dispatcher_->ready());
}

TEST(DeviceConfigTest, NamesAndNumbersMustFit) {
  const auto reason = [](const std::vector<std::string>& devices, std::uint32_t min_devices) {
    config::v1::ServerConfig config;
    config.set_data("data");
    config.add_models("models");
    config.mutable_devices()->Assign(devices.begin(), devices.end());
    config.set_min_devices(min_devices);
    return base::ValueOf(base::CompleteServerConfig(config));
  };
  EXPECT_EQ(reason({"cpu", "cpu"}, 2), "");
  EXPECT_EQ(reason({"cuda:0", "cuda:12"}, 1), "");
  EXPECT_EQ(reason({"cuda:all"}, 8), "");
  EXPECT_EQ(reason({"auto"}, 0), "");
  EXPECT_EQ(reason({"cpu", "cuda:all"}, 2), "");
  EXPECT_EQ(reason({"cuda:all", "cuda:0"}, 0), "devices");
  EXPECT_EQ(reason({"cuda:1", "auto"}, 0), "devices");
  EXPECT_EQ(reason({"auto", "cuda:all"}, 0), "devices");
  EXPECT_EQ(reason({"cuda:0"}, 2), "min_devices");
  EXPECT_EQ(reason({"cuda:0", "cuda:0"}, 0), "devices");
  for (const char* wrong : {"cuda:", "cuda:x", "cuda:-1", "cuda:0x1", "cuda:123", "gpu", ""}) {
    EXPECT_EQ(reason({wrong}, 0), "devices") << wrong;
  }
}

}  // namespace
}  // namespace tomoserve::dispatch
