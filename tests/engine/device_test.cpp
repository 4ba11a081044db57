// What an engine computes on: stream and launch bound, half precision, the check against the CPU, the way to
// CUDA.
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/headeronly/version.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <future>
#include <latch>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "engine/device_check.h"
#include "engine/failure.h"
#include "engine/half_precision.h"
#include "engine/on_devices.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/cuda.h"
#include "tomoserve/engine/launch_bound.h"
#include "tomoserve/engine/runtime.h"

namespace tomoserve::engine {
namespace {

using ::testing::HasSubstr;

class ComputeDeviceTest : public testing::OnDevices {};

TS_INSTANTIATE_ON_DEVICES(ComputeDeviceTest);

TEST_P(ComputeDeviceTest, WorksOnEveryThread) {
  EXPECT_TRUE(device_.Works());
  std::vector<std::jthread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      device_.Use();
      const c10::InferenceMode inference;
      const at::Tensor sum = at::ones({100}, at::TensorOptions(device_.device())).sum();
      device_.Synchronise();
      EXPECT_EQ(sum.item<float>(), 100.0F);
      EXPECT_TRUE(device_.Works());
    });
  }
  threads.clear();
  device_.FreeCache();
  EXPECT_EQ(device_.stream().has_value(), device_.is_cuda());
}

TEST_P(ComputeDeviceTest, MemoryThatIsTakenIsSaid) {
  device_.Use();
  device_.FreeCache();
  const std::uint64_t before = device_.MemoryUsedBytes();
  const at::Tensor taken = at::full({64 << 20}, 1.0F, at::TensorOptions(device_.device()));
  const std::uint64_t taken_bytes = device_.is_cuda() ? taken.nbytes() : 0;
  EXPECT_GE(device_.MemoryUsedBytes(), before + taken_bytes);
  EXPECT_EQ(device_.MemoryUsedBytes() > 0, device_.is_cuda());
}

TEST_P(ComputeDeviceTest, TheMostThatWasInUseIsSaid) {
  InitialiseTorch();
  device_.Use();
  const std::uint64_t before = device_.RestartPeak();
  const std::uint64_t taken_bytes =
      at::full({64 << 20}, 1.0F, at::TensorOptions(device_.device())).nbytes();  // and given back
#ifdef TOMOSERVE_SANITIZED
  const bool counts = device_.is_cuda();
#else
  const bool counts = true;
#endif
  EXPECT_GE(device_.PeakBytes(), before + (counts ? taken_bytes : 0));
  EXPECT_LT(device_.RestartPeak(), before + taken_bytes);
  EXPECT_LT(device_.PeakBytes(), before + taken_bytes);
  if (!device_.is_cuda()) {
    EXPECT_EQ(device_.PeakBytes(), 0u);
  }
  EXPECT_FALSE(device_.IsMemoryLow());
}

TEST_P(ComputeDeviceTest, ConvolutionsAgreeWithTheCpu) {
  EXPECT_LE(ConvolutionDifference(device_, v1::PRECISION_FLOAT32), 3e-4);
  const double half = ConvolutionDifference(device_, v1::PRECISION_FLOAT16);
  EXPECT_LE(half, 0.1);
  EXPECT_GT(half, 3e-4) << "half precision was not used";
}

TEST_P(ComputeDeviceTest, TheLaunchBoundLetsEveryWindowThrough) {
  device_.Use();
  const c10::InferenceMode inference;
  LaunchBound bound(device_.stream(), 2);
  at::Tensor sum = at::full({1}, 0.0, at::TensorOptions(device_.device()));
  for (int window = 0; window < 20; ++window) {
    bound.AwaitRoom();
    sum.add_(1);
    bound.Mark();
  }
  EXPECT_EQ(sum.item<float>(), 20.0F);
}

TEST(ComputeDeviceErrorTest, AGpuThatIsNotThereIsAnError) {
  if (testing::HasCudaDevice()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(base::ReasonOf(ComputeDevice::Cuda(0).status()), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(ComputeDevice::Cuda(0).status()), "cuda:0");
}

TEST(ComputeDeviceErrorTest, WhateverADeviceIsSetUpWithFailsAsADevice) {
  const auto status = [](const auto& fail) {
    try {
      fail();
    } catch (...) {
      return CurrentDeviceException("cuda:0", "the device cannot be opened");
    }
    return absl::OkStatus();
  };
  for (const absl::Status& failed :
       {status([] { throw std::bad_alloc(); }), status([] { throw std::runtime_error("no\nsuch thing"); }),
        status([] { throw std::runtime_error("CUDA out of memory"); }), status([] { throw 7; })}) {
    EXPECT_EQ(failed.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(base::ReasonOf(failed), "DEVICE_UNAVAILABLE");
    EXPECT_EQ(base::ValueOf(failed), "cuda:0");
    EXPECT_THAT(failed.ToString(), HasSubstr("the device cannot be opened: "));
  }
}

// Attempts that fail with these texts in turn, and then succeed; what is made of them.
struct MemoryTries {
  std::vector<std::string> texts;
  bool is_low = false;
  int freed = 0;

  absl::StatusOr<int> Run() {
    std::size_t tries = 0;
    return WithinMemory(
        [&]() -> absl::StatusOr<int> {
          try {
            if (tries < texts.size()) throw std::runtime_error(texts[tries++]);
            return 7;
          } catch (...) {
            return CurrentException(absl::StatusCode::kInternal, "NETWORK_FAILED", "1x1x8",
                                    "the network failed");
          }
        },
        [&] { ++freed; }, [&] { return is_low; });
  }
};

constexpr char kNoEngine[] = "GET was unable to find an engine to execute this computation";

TEST(WithinMemoryTest, WhatMayBeAShortageIsTriedAgainWithAllMemory) {
  for (const char* text :
       {kNoEngine, "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA out of memory."}) {
    MemoryTries tries{.texts = {text}};
    const absl::StatusOr<int> result = tries.Run();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, 7);
    EXPECT_EQ(tries.freed, 1);
  }
}

TEST(WithinMemoryTest, WhatFailsAgainIsAShortageOnlyWhereMemoryIsLow) {
  MemoryTries plenty{.texts = {kNoEngine, kNoEngine}};
  EXPECT_EQ(base::ReasonOf(plenty.Run().status()), "NETWORK_FAILED");
  MemoryTries low{.texts = {kNoEngine, kNoEngine}, .is_low = true};
  EXPECT_EQ(base::ReasonOf(low.Run().status()), "OUT_OF_MEMORY");
  EXPECT_EQ(base::ValueOf(low.Run().status()), "1x1x8");
  MemoryTries said{.texts = {kNoEngine, "CUDA out of memory."}};
  EXPECT_EQ(base::ReasonOf(said.Run().status()), "OUT_OF_MEMORY");
}

TEST(WithinMemoryTest, OtherFailuresAreFinal) {
  MemoryTries tries{.texts = {"CUDA error: device-side assert triggered"}, .is_low = true};
  EXPECT_EQ(base::ReasonOf(tries.Run().status()), "NETWORK_FAILED");
  EXPECT_EQ(tries.freed, 0);
}

// A device whose launches end when the test says so. Its events are numbers.
class SlowDevice final : public c10::impl::DeviceGuardImplInterface {
 public:
  c10::DeviceType type() const override { return c10::kPrivateUse1; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return {c10::kPrivateUse1, 0}; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return TheStream(); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void** event, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {
    *event = new int(++recorded_);
  }
  void destroyEvent(void* event, c10::DeviceIndex) const noexcept override {
    delete static_cast<int*>(event);
  }
  void synchronizeEvent(void* event) const override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return finished_ >= *static_cast<int*>(event); });
  }

  static c10::Stream TheStream() {
    return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kPrivateUse1, 0), /*id=*/1);
  }
  // Counts from 1 again, nothing being finished.
  static void Restart() {
    recorded_ = 0;
    FinishUntil(0);
  }
  static void FinishUntil(int launch) {
    const std::lock_guard lock(mutex_);
    finished_ = launch;
    changed_.notify_all();
  }

 private:
  static inline std::atomic<int> recorded_{0};
  static inline std::mutex mutex_;
  static inline std::condition_variable changed_;
  static inline int finished_ = 0;
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, SlowDevice)

TEST(LaunchBoundTest, ALauncherWaitsForTheWindowBeforeTheLastOnes) {
  SlowDevice::Restart();
  LaunchBound bound(SlowDevice::TheStream(), 4);
  std::atomic<int> launched{0};
  std::jthread launcher([&] {
    for (int window = 0; window < 10; ++window) {
      bound.AwaitRoom();
      bound.Mark();
      ++launched;
    }
  });
  const auto settles_at = [&](int windows) {
    for (int tries = 0; tries < 500 && launched < windows; ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    return launched == windows;
  };
  EXPECT_TRUE(settles_at(4)) << launched;
  SlowDevice::FinishUntil(1);
  EXPECT_TRUE(settles_at(5)) << launched;
  SlowDevice::FinishUntil(4);
  EXPECT_TRUE(settles_at(8)) << launched;
  SlowDevice::FinishUntil(10);
  EXPECT_TRUE(settles_at(10)) << launched;
}

TEST(LaunchBoundTest, EachOfSeveralLaunchersMayAddOne) {
  SlowDevice::Restart();
  LaunchBound bound(SlowDevice::TheStream(), 2);
  std::latch waited(3);
  std::vector<std::jthread> launchers;
  for (int n = 0; n < 3; ++n) {
    launchers.emplace_back([&] {
      bound.AwaitRoom();
      waited.arrive_and_wait();  // all have seen room before any has taken it
      bound.Mark();
    });
  }
  launchers.clear();
  // Three are unfinished: the next one waits for two of them.
  std::atomic<bool> passed{false};
  std::jthread next([&] {
    bound.AwaitRoom();
    passed = true;
  });
  SlowDevice::FinishUntil(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(passed);
  SlowDevice::FinishUntil(3);
  next.join();
  EXPECT_TRUE(passed);
}

TEST(LaunchBoundTest, WithoutAStreamNothingWaits) {
  LaunchBound bound(std::nullopt, 1);
  for (int window = 0; window < 3; ++window) {
    bound.AwaitRoom();
    bound.Mark();
  }
}

TEST(HalfPrecisionTest, ReachesScriptedNetworksAndEndsWithItsScope) {
  InitialiseTorch();
  torch::jit::Module module("Net");
  module.register_parameter("weight", at::full({1, 1, 1, 1, 1}, 0.3), false);
  module.define("def forward(self, x):\n  return torch.conv3d(x, self.weight)\n");
  module.eval();
  const torch::jit::Module frozen = torch::jit::freeze(module, std::nullopt, false);
  const c10::InferenceMode inference;
  const torch::jit::GraphOptimizerEnabledGuard no_recompilation(false);
  const auto type = [&](const torch::jit::Module& network) {
    return network.get_method("forward")({at::ones({1, 1, 2, 2, 2})}).toTensor().scalar_type();
  };
  for (const torch::jit::Module& network : {module, frozen}) {
    EXPECT_EQ(type(network), at::kFloat);
    {
      const HalfPrecision half(c10::kCPU);
      EXPECT_EQ(type(network), at::kHalf);
      std::jthread([&] { EXPECT_EQ(type(network), at::kFloat) << "another thread"; }).join();
    }
    EXPECT_EQ(type(network), at::kFloat);
  }
}

// A module's answers, as told.
cuda::Result Succeeded() { return {}; }
cuda::Result Failed(int code, const char* name) {
  cuda::Result result{};
  result.code = code;
  std::strncpy(result.name, name, sizeof result.name - 1);
  std::strncpy(result.text, "as CUDA says", sizeof result.text - 1);
  return result;
}
cuda::Result FindsTwo(std::int32_t* devices) {
  *devices = 2;
  return Succeeded();
}
cuda::Result FindsOldDriver(std::int32_t* devices) {
  *devices = 0;
  return Failed(35, "cudaErrorInsufficientDriver");
}
cuda::Result SaysPascal(std::int32_t, cuda::DeviceFacts* facts) {
  std::strncpy(facts->name, "NVIDIA P4", sizeof facts->name - 1);
  facts->capability_major = 6;
  facts->capability_minor = 1;
  return Succeeded();
}
cuda::Result HasNoCode(std::int32_t, bool* unsupported) {
  *unsupported = true;
  return Failed(209, "cudaErrorNoKernelImageForDevice");
}
cuda::Result IsBusy(std::int32_t, bool* unsupported) {
  *unsupported = false;
  return Failed(46, "cudaErrorDevicesUnavailable");
}

cuda::Module FakeModule() {
  cuda::Module module{};
  module.abi = cuda::kModuleAbi;
  module.architectures = "80-real 89-real 90";
  module.count = &FindsTwo;
  module.facts = &SaysPascal;
  module.self_test = &HasNoCode;
  return module;
}

TEST(CudaDeviceTest, SaysWhatIsWrongWithADevice) {
  cuda::Module module = FakeModule();
  const auto facts = FindCudaDevice(module, 1);
  ASSERT_TRUE(facts.ok()) << facts.status();
  const absl::Status absent = FindCudaDevice(module, 2).status();
  EXPECT_EQ(base::ReasonOf(absent), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(absent), "cuda:2");
  const absl::Status no_code = InitialiseCuda(module, *facts, 1).status();
  EXPECT_EQ(base::ReasonOf(no_code), "DEVICE_UNSUPPORTED");
  EXPECT_EQ(base::ValueOf(no_code), "sm_61");
  EXPECT_THAT(no_code.ToString(), HasSubstr("80-real 89-real 90"));
  module.self_test = &IsBusy;
  const absl::Status busy = InitialiseCuda(module, *facts, 1).status();
  EXPECT_EQ(base::ReasonOf(busy), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(busy), "cudaErrorDevicesUnavailable");
  module.count = &FindsOldDriver;
  EXPECT_EQ(base::ValueOf(FindCudaDevice(module, 0).status()), "cudaErrorInsufficientDriver");
}

TEST(CudaModuleTest, AMissingDriverIsNamed) {
  if (testing::kCudaLibrary) GTEST_SKIP() << "this machine has a driver";
  const absl::Status status = OpenCudaModule(CudaModulePath()).status();
  EXPECT_EQ(base::ReasonOf(status), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(status), "libcuda.so.1");
}

class CudaModuleFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (testing::kCudaLibrary) GTEST_SKIP() << "this machine has a driver";
    // From here on this process has a driver of this name.
    ASSERT_NE(::dlopen(TOMOSERVE_STUB_DRIVER, RTLD_NOW), nullptr) << ::dlerror();
  }
};

TEST_F(CudaModuleFileTest, AMissingModuleIsNamed) {
  const absl::Status status = OpenCudaModule("/nowhere/libtomoserve_cuda.so").status();
  EXPECT_EQ(base::ReasonOf(status), "DEVICE_UNAVAILABLE");
  EXPECT_EQ(base::ValueOf(status), "libtomoserve_cuda.so");
}

TEST_F(CudaModuleFileTest, ModulesOfOtherBuildsAreRefused) {
  for (const auto& [file, says] : {std::pair{TOMOSERVE_STUB_MODULE_NO_ENTRY, "no entry point"},
                                   std::pair{TOMOSERVE_STUB_MODULE_OTHER_ABI, "another build"},
                                   std::pair{TOMOSERVE_STUB_MODULE_OTHER_TORCH, "another LibTorch"}}) {
    const absl::Status status = OpenCudaModule(file).status();
    EXPECT_EQ(base::ReasonOf(status), "DEVICE_UNAVAILABLE");
    EXPECT_THAT(base::ValueOf(status), HasSubstr("stub_module")) << file;
    EXPECT_THAT(status.ToString(), HasSubstr(says)) << file;
  }
  EXPECT_TRUE(OpenCudaModule(TOMOSERVE_STUB_MODULE_GOOD).ok());
}

TEST(CudaEnvironmentTest, SaysWhatCudaMustKnowBeforeItStarts) {
  SetCudaEnvironment();
  EXPECT_STREQ(::getenv("CUBLAS_WORKSPACE_CONFIG"), ":4096:8");
  EXPECT_STREQ(::getenv("PYTORCH_CUDA_ALLOC_CONF"), "expandable_segments:True");
}

}  // namespace
}  // namespace tomoserve::engine
