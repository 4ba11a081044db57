// Tests that run on the CPU and on the first GPU; without one the latter are skipped, visibly.
#pragma once

#include <c10/core/DeviceType.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "device.h"
#include "tomoserve/engine/compute_device.h"

namespace tomoserve::testing {

// The parameter is the kind of device; `device_` is one of it.
class OnDevices : public ::testing::TestWithParam<c10::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == c10::kCPU) return;
    TS_SKIP_WITHOUT_CUDA();
    auto cuda = engine::ComputeDevice::Cuda(0);
    ASSERT_TRUE(cuda.ok()) << cuda.status();
    device_ = *std::move(cuda);
  }

  engine::ComputeDevice device_;
};

inline std::string DeviceName(const ::testing::TestParamInfo<c10::DeviceType>& info) {
  return info.param == c10::kCPU ? "cpu" : "cuda";
}

}  // namespace tomoserve::testing

#define TS_INSTANTIATE_ON_DEVICES(suite)                                             \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, ::testing::Values(c10::kCPU, c10::kCUDA), \
                           ::tomoserve::testing::DeviceName)
