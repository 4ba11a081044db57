// Suites that run for every placement: plain loops, tensor operations on the CPU, and CUDA, which skips where
// there is no device.
#pragma once

#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "compute/fixtures.h"
#include "device.h"
#include "tomoserve/compute/on_device/labels.h"
#include "tomoserve/compute/on_device/transfer.h"
#include "tomoserve/compute/placement.h"

namespace tomoserve::testing {

struct Place {
  const char* name;
  compute::Placement placement;
};

inline std::vector<Place> TensorPlaces() {
  return {{"Tensors", {c10::Device(c10::kCPU), false}}, {"Cuda", {c10::Device(c10::kCUDA, 0), false}}};
}

inline std::vector<Place> AllPlaces() {
  std::vector<Place> places = TensorPlaces();
  places.insert(places.begin(), {"Loops", {}});
  return places;
}

inline void PrintTo(const Place& place, std::ostream* out) { *out << place.name; }

// Base of suites that run in every place. With tensor operations ATen refuses those that it knows as
// non-deterministic on the device, and fills uninitialised memory with NaN or the largest number.
class PlacedTest : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (placement().device.is_cuda()) TS_SKIP_WITHOUT_CUDA();
    if (!placement().UsesLoops()) at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  void TearDown() override { at::globalContext().setDeterministicAlgorithms(false, /*warn_only=*/false); }
  const compute::Placement& placement() const { return GetParam().placement; }
  at::Tensor Put(const at::Tensor& tensor) const { return tensor.to(placement().device); }
};

// Values of a float32 tensor of any device, in order.
inline std::vector<float> Values(const at::Tensor& tensor) {
  const at::Tensor host = tensor.cpu().contiguous();
  return {Floats(host).begin(), Floats(host).end()};
}

// Labels as a device holds them, and back.
template <typename Label>
at::Tensor LabelTensor(const std::vector<Label>& labels, std::array<std::int64_t, 3> size,
                       at::Device device) {
  const at::Tensor host = at::empty(size, at::TensorOptions(compute::on_device::kLabelType<Label>));
  std::memcpy(host.mutable_data_ptr(), labels.data(), labels.size() * sizeof(Label));
  return host.to(device);
}

template <typename Label>
std::vector<Label> LabelsOf(const at::Tensor& tensor) {
  std::vector<Label> labels(static_cast<std::size_t>(tensor.numel()));
  EXPECT_TRUE(compute::on_device::Download(tensor, std::as_writable_bytes(std::span(labels)), {}).ok());
  return labels;
}

}  // namespace tomoserve::testing

#define TS_INSTANTIATE_PLACES(suite, places)                                                        \
  INSTANTIATE_TEST_SUITE_P(Placed, suite, ::testing::ValuesIn(places),                              \
                           [](const ::testing::TestParamInfo<::tomoserve::testing::Place>& place) { \
                             return std::string(place.param.name);                                  \
                           })
