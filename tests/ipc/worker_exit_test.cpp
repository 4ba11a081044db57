#include "tomoserve/ipc/worker_exit.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <exception>
#include <stdexcept>

namespace tomoserve::ipc {
namespace {

using ::testing::ExitedWithCode;
using ::testing::KilledBySignal;

[[noreturn]] void Throw() { throw std::runtime_error("CUDA error: device-side assert triggered"); }

// As a tensor in pinned memory, whose end records an event on the GPU.
struct Pinned {
  ~Pinned() { Throw(); }
};

void LosePinnedMemory(std::function<bool()> device_works) {
  ExitOnDeviceLoss(std::move(device_works));
  const Pinned pinned;
}

TEST(WorkerExitTest, MemoryOfADeadGpuEndsTheWorkerAsALossOfTheDevice) {
  EXPECT_EXIT(LosePinnedMemory([] { return false; }), ExitedWithCode(kWorkerDeviceLost), "device_lost");
}

TEST(WorkerExitTest, WhatEscapesWhileTheDeviceWorksIsACrash) {
  EXPECT_EXIT(LosePinnedMemory([] { return true; }), KilledBySignal(SIGABRT), "");
}

TEST(WorkerExitTest, ADeviceThatCannotBeAskedIsLost) {
  EXPECT_EXIT(LosePinnedMemory([]() -> bool { std::terminate(); }), ExitedWithCode(kWorkerDeviceLost), "");
  EXPECT_EXIT(LosePinnedMemory([]() -> bool { Throw(); }), ExitedWithCode(kWorkerDeviceLost), "");
}

}  // namespace
}  // namespace tomoserve::ipc
