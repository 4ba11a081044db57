// What tomoserve-worker says of devices that it cannot use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <filesystem>
#include <memory>

#include "device.h"
#include "engine/worker_program.h"

namespace tomoserve {
namespace {

namespace fs = std::filesystem;
using std::chrono::seconds;
using testing::WorkerProgram;
using testing::WorkerReply;

bool SaidHello(WorkerProgram& worker) { return !worker.AwaitHello().device_kind().empty(); }

// Why there is no hello; empty if there is one.
ipc::v1::Refusal Unusable(WorkerProgram& worker) {
  return worker.Await([](const WorkerReply& reply) { return reply.has_unusable() || reply.has_hello(); })
      .unusable();
}

int ExitCode(WorkerProgram& worker) {
  const auto exit = worker.child().Wait(seconds(20));
  return exit.ok() && exit->signal == 0 ? exit->exit_code : -1;
}

TEST(WorkerDeviceTest, OneWorkerHoldsADevice) {
  std::string folder = (fs::temp_directory_path() / "tomoserve-lock-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::vector<std::string> options = {"--lock-dir", folder, "--lock", "cuda:0"};
  const auto first = std::make_unique<WorkerProgram>(options);
  ASSERT_TRUE(SaidHello(*first));
  const auto exit_code = [&](const std::vector<std::string>& other) {
    WorkerProgram second(other);
    const ipc::v1::Refusal refusal = Unusable(second);
    EXPECT_EQ(refusal.code() == "DEVICE_BUSY", other == options) << refusal.code();
    const auto exit = second.child().Wait(seconds(20));
    return exit.ok() ? exit->exit_code : -1;
  };
  EXPECT_EQ(exit_code(options), 4);
  first->child().Kill(SIGKILL);
  ASSERT_TRUE(first->child().Wait(seconds(5)).ok());
  WorkerProgram next(options);
  EXPECT_TRUE(SaidHello(next)) << "a dead worker holds nothing";
  fs::remove_all(folder);
}

TEST(WorkerDeviceTest, ADeviceThatCannotBeSetUpIsUnavailableWhateverTheReason) {
  std::string folder = (fs::temp_directory_path() / "tomoserve-lock-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  for (const auto& [options, reason] :
       {std::pair{std::vector<std::string>{"--lock-dir", folder, "--lock", "../cuda"}, "LOCK_NAME"},
        std::pair{std::vector<std::string>{"--lock-dir", folder + "/absent", "--lock", "cuda:1"},
                  "LOCK_FAILED"}}) {
    WorkerProgram worker(options);
    const ipc::v1::Refusal refusal = Unusable(worker);
    EXPECT_EQ(refusal.code(), "DEVICE_UNAVAILABLE");
    EXPECT_EQ(refusal.value(), reason);
    EXPECT_NE(refusal.text(), "");
    EXPECT_EQ(ExitCode(worker), 3);
  }
  fs::remove_all(folder);
}

TEST(WorkerDeviceTest, ArgumentsThatMeanNothingAreUsageErrors) {
  for (const std::vector<std::string>& options :
       {std::vector<std::string>{"--lanes", "0"}, std::vector<std::string>{"--nonsense"},
        std::vector<std::string>{"--device", "cuda"}, std::vector<std::string>{"--device", "cuda:all"},
        std::vector<std::string>{"--device", "cuda:-1"}, std::vector<std::string>{"--device", "tpu:0"}}) {
    WorkerProgram worker(options);
    EXPECT_EQ(ExitCode(worker), 2) << options.back();
  }
}

TEST(WorkerDeviceTest, WithoutADriverItSaysSoAndNeverComputesOnTheCpu) {
  if (testing::kCudaLibrary) GTEST_SKIP() << "this machine has a driver";
  WorkerProgram worker({"--device", "cuda:0"});
  const ipc::v1::Refusal refusal = Unusable(worker);
  EXPECT_EQ(refusal.code(), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(refusal.value(), "libcuda.so.1");
  EXPECT_THAT(refusal.text(), ::testing::HasSubstr("cannot open shared object file"));
  EXPECT_EQ(ExitCode(worker), 3);
}

// With a driver (here one that is none) the module is opened: it is not part of this build, or the libraries
// of CUDA that it needs are not on this machine.
TEST(WorkerDeviceTest, WithoutCudasLibrariesItSaysWhichIsMissing) {
  if (testing::kCudaLibrary) GTEST_SKIP() << "this machine has a driver";
  WorkerProgram worker({"--device", "cuda:0"}, {"LD_LIBRARY_PATH=" TOMOSERVE_STUB_FOLDER});
  const ipc::v1::Refusal refusal = Unusable(worker);
  EXPECT_EQ(refusal.code(), "DEVICE_UNAVAILABLE");
  if (fs::exists(TOMOSERVE_BINARY_DIR "/libtomoserve_cuda.so")) {
    EXPECT_THAT(refusal.value(), ::testing::MatchesRegex("lib(cu|nccl|nvshmem)[A-Za-z_]*\\.so\\.[0-9]+"));
  } else {
    EXPECT_EQ(refusal.value(), "libtomoserve_cuda.so");
  }
  EXPECT_EQ(ExitCode(worker), 3);
}

TEST(WorkerDeviceTest, AGpuThatIsNotThereIsUnavailable) {
  TS_SKIP_WITHOUT_CUDA();
  if (!fs::exists(TOMOSERVE_BINARY_DIR "/libtomoserve_cuda.so")) GTEST_SKIP() << "built without CUDA";
  WorkerProgram worker({"--device", "cuda:99"});
  const ipc::v1::Refusal refusal = Unusable(worker);
  EXPECT_EQ(refusal.code(), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(refusal.value(), "cuda:99");
  EXPECT_EQ(ExitCode(worker), 3);
}

TEST(WorkerDeviceTest, OneWorkerHoldsAGpuWhateverItsNumber) {
  TS_SKIP_WITHOUT_CUDA();
  if (!fs::exists(TOMOSERVE_BINARY_DIR "/libtomoserve_cuda.so")) GTEST_SKIP() << "built without CUDA";
  std::string folder = (fs::temp_directory_path() / "tomoserve-lock-XXXXXX").string();
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  const std::vector<std::string> options = {"--device", "cuda:0", "--lock-dir", folder};
  WorkerProgram first(options);
  ASSERT_TRUE(SaidHello(first));
  WorkerProgram second(options);
  EXPECT_EQ(Unusable(second).code(), "DEVICE_BUSY");
  EXPECT_EQ(ExitCode(second), 4);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace tomoserve
