// Streams and events of a device that only writes down what is asked of it: the order of copies is the same
// code on every device. Copies themselves are tested where there is a real one (stored_to_float_test.cpp).
#include "compute/on_device/staging.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tomoserve/compute/on_device/transfer.h"

namespace tomoserve::compute::on_device {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr c10::DeviceType kRecording = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kRecording, 0);

// What was asked, and the current stream: a guard has no state of its own.
struct Record {
  std::vector<std::string> asked;
  c10::StreamId current = 1;
  c10::StreamId next_of_pool = 2;
};
Record& TheRecord() {
  static Record record;
  return record;
}

c10::Stream StreamOf(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, kDevice, id); }

struct RecordingGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kRecording; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Stream getStream(c10::Device) const override { return StreamOf(TheRecord().current); }
  c10::Stream getStreamFromGlobalPool(c10::Device, bool) const override {
    return StreamOf(TheRecord().next_of_pool++);
  }
  c10::Stream exchangeStream(c10::Stream stream) const override {
    return StreamOf(std::exchange(TheRecord().current, stream.id()));
  }
  void record(void** event, const c10::Stream& stream, c10::DeviceIndex, c10::EventFlag) const override {
    static int some_event = 0;
    *event = &some_event;
    TheRecord().asked.push_back("mark in " + std::to_string(stream.id()));
  }
  void block(void*, const c10::Stream& stream) const override {
    TheRecord().asked.push_back("hold up " + std::to_string(stream.id()));
  }
  void synchronizeEvent(void*) const override { TheRecord().asked.push_back("host waits"); }
  void destroyEvent(void*, c10::DeviceIndex) const noexcept override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, RecordingGuard)

TEST(StagingTest, CopiesRunOnAStreamBesideTheCallers) {
  TheRecord() = {};
  const Stream main = CurrentStream(kDevice);
  const Stream copying = CopyStream(kDevice);
  ASSERT_TRUE(main && copying);
  EXPECT_EQ(main->id(), 1);
  EXPECT_NE(copying->id(), main->id());
  RunOn(copying, [&] { EXPECT_EQ(CurrentStream(kDevice), copying); });
  EXPECT_EQ(CurrentStream(kDevice), main);
}

TEST(StagingTest, MarksHoldUpStreamsOrTheHost) {
  TheRecord() = {};
  Mark mark(kDevice);
  mark.HoldUp(StreamOf(1));
  mark.Wait();
  EXPECT_THAT(TheRecord().asked, IsEmpty());  // nothing to wait for yet
  mark.Set(StreamOf(2));
  mark.HoldUp(StreamOf(1));
  mark.Wait();
  EXPECT_THAT(TheRecord().asked, ElementsAre("mark in 2", "hold up 1", "host waits"));
}

TEST(StagingTest, ACpuHasNoStreamsAndNothingToWaitFor) {
  EXPECT_EQ(CurrentStream(c10::kCPU), std::nullopt);
  EXPECT_EQ(CopyStream(c10::kCPU), std::nullopt);
  Mark mark(c10::kCPU);
  mark.Set(std::nullopt);
  mark.HoldUp(std::nullopt);
  mark.Wait();
  bool ran = false;
  RunOn(std::nullopt, [&] { ran = true; });
  EXPECT_TRUE(ran);
}

TEST(StagingTest, AtLeastTwoThreadsFeedADevice) {
  EXPECT_EQ(CopyThreads({1, {}}, kDevice).threads, 2);
  EXPECT_EQ(CopyThreads({5, {}}, kDevice).threads, 5);
  EXPECT_EQ(CopyThreads({1, {}}, c10::kCPU).threads, 1);
}

TEST(StagingTest, DownloadsOfSeveralBuffersArriveInOrder) {
  const std::int64_t size = (std::int64_t{40} << 20) + 12345;  // three buffers
  const at::Tensor tensor = HostBuffer(size, at::kByte, c10::kCPU);
  for (std::int64_t v = 0; v < size; ++v)
    tensor.mutable_data_ptr<std::uint8_t>()[v] = static_cast<std::uint8_t>(v * 7 + (v >> 20));
  std::vector<std::byte> out(static_cast<std::size_t>(size), std::byte{0xee});
  ASSERT_TRUE(Download(tensor, out, {2, {}}).ok());
  EXPECT_EQ(std::memcmp(out.data(), tensor.const_data_ptr(), out.size()), 0);
}

}  // namespace
}  // namespace tomoserve::compute::on_device
