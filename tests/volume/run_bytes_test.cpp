#include "tomoserve/volume/run_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

using ::testing::ElementsAre;

RunArrays Cube(std::uint64_t size, std::uint64_t channels) {
  return {.volume_ijk = {size, size, size}, .prepared_ijk = {size, size, size}, .channels = channels};
}

TEST(RunBytesTest, LoopsHoldSumsWeightsThePreparedVolumeAndLabels) {
  EXPECT_EQ(LoopBytes(Cube(100, 25)), 1'000'000u * (27 * 4 + 2));
  // With a coarse prepared volume the volume itself is the most.
  RunArrays coarse = Cube(100, 1);
  coarse.prepared_ijk = {10, 10, 10};
  EXPECT_EQ(LoopBytes(coarse), (1'000'000u + 1'000u) * 4);
}

TEST(RunBytesTest, ADeviceHoldsTheArraysAndPiecesOfThem) {
  const RunArrays chest{.volume_ijk = {512, 512, 300}, .prepared_ijk = {512, 512, 300}, .channels = 25};
  const std::uint64_t arrays = 512ull * 512 * 300 * (26 * 4 + 2 * 2);
  EXPECT_GE(DeviceBytes(chest), arrays);
  EXPECT_LE(DeviceBytes(chest), arrays + (std::uint64_t{512} << 20));
  EXPECT_LE(HostBytesBesideDevice(chest), std::uint64_t{256} << 20);
}

TEST(RunBytesTest, MoreOfAnythingIsNeverLess) {
  RunArrays arrays = Cube(64, 2);
  for (int step = 0; step < 9; ++step) {
    RunArrays more = arrays;
    switch (step % 3) {
      case 0:
        more.channels *= 3;
        break;
      case 1:
        more.volume_ijk[static_cast<std::size_t>(step) / 3] *= 2;
        break;
      default:
        more.prepared_ijk[static_cast<std::size_t>(step) / 3] *= 2;
    }
    EXPECT_GE(LoopBytes(more), LoopBytes(arrays));
    EXPECT_GE(DeviceBytes(more), DeviceBytes(arrays));
    EXPECT_GE(HostBytesBesideDevice(more), HostBytesBesideDevice(arrays));
    arrays = more;
  }
}

TEST(RunBytesTest, AbsurdSizesAreLargeNumbersNotSmallOnes) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  const RunArrays absurd{
      .volume_ijk = {kMost, kMost, kMost}, .prepared_ijk = {kMost, kMost, kMost}, .channels = kMost};
  EXPECT_GE(LoopBytes(absurd), std::uint64_t{1} << 50);
  EXPECT_GE(DeviceBytes(absurd), std::uint64_t{1} << 50);
  EXPECT_GE(HostBytesBesideDevice(absurd), std::uint64_t{1} << 40);
}

TEST(RunBytesTest, ThePreparedVolumesAxesAreThoseThatTheyCameFrom) {
  const auto volume = Geometry::Create({100, 200, 50}, {1, 2, 3}, {}, {{{1, 0, 0}, {0, 0, 1}, {0, -1, 0}}});
  ASSERT_TRUE(volume.ok());
  const RunArrays arrays =
      ArraysOf(*volume, {.source_axis = {2, 0, 1}, .flip = {true, false, false}}, {7, 8, 9}, 3);
  EXPECT_THAT(arrays.volume_ijk, ElementsAre(100, 200, 50));
  EXPECT_THAT(arrays.prepared_ijk, ElementsAre(8, 9, 7));
  EXPECT_EQ(arrays.channels, 3u);
}

TEST(RunFitsTest, LoadedModelsTakeFromWhatARunMayUse) {
  EXPECT_TRUE(CheckRunFits(700, 1000, 300, "the device").ok());
  const absl::Status beside = CheckRunFits(701, 1000, 300, "the device");
  EXPECT_EQ(beside.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(base::ReasonOf(beside), "RUN_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(beside), "701");
  EXPECT_FALSE(CheckRunFits(1, 1000, 2000, "the device").ok()) << "more weights than memory";
}

}  // namespace
}  // namespace tomoserve::volume
