// Values are read on the host in every placement.
#include "tomoserve/compute/object_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compute/fixtures.h"
#include "random.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

StoredSlice SliceOf(const std::vector<std::int16_t>& values, double slope, double intercept) {
  return {std::as_bytes(std::span(values)), ipc::v1::STORED_TYPE_I16, slope, intercept};
}

ValueStatistics Measured(const std::vector<StoredSlice>& slices, std::array<std::uint32_t, 3> size_ijk,
                         const std::vector<RowRun>& runs, const NearestVoxels& nearest = {},
                         int threads = 1) {
  const auto values = StoredValues::Create(slices, size_ijk);
  EXPECT_TRUE(values.ok()) << values.status();
  const auto statistics = values->Measure(runs, nearest, {threads, {}});
  EXPECT_TRUE(statistics.ok()) << statistics.status();
  return *statistics;
}

// 3 x 2 pixels; slopes and intercepts differ.
const std::vector<std::int16_t> kFirst{0, 1, 2, 10, 11, 12};
const std::vector<std::int16_t> kSecond{100, 101, 102, 110, 111, 112};

TEST(ObjectValuesTest, AreRescaledByEachSlicesFactors) {
  const ValueStatistics values =
      Measured({SliceOf(kFirst, 2, -1000), SliceOf(kSecond, 1, 5)}, {3, 2, 2}, {{0, 0, 1, 2}, {1, 1, 0, 0}});
  // -998, -996, 115
  EXPECT_EQ(values.values, 3u);
  EXPECT_DOUBLE_EQ(values.mean, (-998.0 - 996 + 115) / 3);
  const double mean = values.mean;
  EXPECT_NEAR(values.deviation,
              std::sqrt((std::pow(-998 - mean, 2) + std::pow(-996 - mean, 2) + std::pow(115 - mean, 2)) / 3),
              1e-9);
}

TEST(ObjectValuesTest, OfOneValueDeviateByNothing) {
  const ValueStatistics values =
      Measured({SliceOf(kFirst, 1, 0), SliceOf(kFirst, 1, 0)}, {3, 2, 2}, {{0, 1, 1, 1}, {1, 1, 1, 1}});
  EXPECT_EQ(values.mean, 11);
  EXPECT_EQ(values.deviation, 0);
}

TEST(ObjectValuesTest, OfAnotherGridAreThoseOfTheNearestVoxels) {
  // A grid of 4 x 1 x 1 that runs the other way along i, in row 1 of slice 1.
  const NearestVoxels nearest{{{2, 1, 1, 0}, {1}, {1}}};
  const std::vector<StoredSlice> slices{SliceOf(kFirst, 1, 0), SliceOf(kSecond, 1, 0)};
  EXPECT_DOUBLE_EQ(Measured(slices, {3, 2, 2}, {{0, 0, 0, 3}}, nearest).mean, (112 + 111 + 111 + 110) / 4.0);
  EXPECT_DOUBLE_EQ(Measured(slices, {3, 2, 2}, {{0, 0, 1, 3}}, nearest).mean, (111 + 111 + 110) / 3.0);
}

TEST(ObjectValuesTest, BesideShiftedImagesAreLeftOut) {
  StoredSlice shifted = SliceOf({}, 1, 0);
  const std::vector<std::int16_t> stored{10, 20, 30, 40};  // 2 x 2 on 4 x 3
  shifted.bytes = std::as_bytes(std::span(stored));
  shifted.shift = Shift{{1, 0.5}, {2, 2}, -1000};
  // Rows are halfway between: row 1 is (10 + 30) / 2 and (20 + 40) / 2, rows 0 and 2 mix with outside.
  const ValueStatistics values = Measured({shifted}, {4, 3, 1}, {{0, 0, 0, 3}, {0, 1, 0, 3}, {0, 2, 0, 3}});
  EXPECT_EQ(values.values, 2u);
  EXPECT_EQ(values.mean, 25);
  EXPECT_EQ(values.deviation, 5);
  EXPECT_EQ(Measured({shifted}, {4, 3, 1}, {{0, 1, 3, 3}}).values, 0u);
}

TEST(ObjectValuesTest, OnInterpolatedSlicesAreMixed) {
  StoredSlice between;
  between.between = Between{0, 2, 0.25};
  const std::vector<StoredSlice> slices{SliceOf(kFirst, 1, 0), between, SliceOf(kSecond, 1, 0)};
  EXPECT_EQ(Measured(slices, {3, 2, 3}, {{1, 1, 2, 2}}).mean, 0.75 * 12 + 0.25 * 112);
}

// The specification: the volume of floats, voxel by voxel. Any number of threads gives the same bits.
TEST(ObjectValuesTest, EqualThoseOfTheVolume) {
  testing::Random random(3);
  constexpr std::array<std::uint32_t, 3> kSize{13, 90, 60};
  std::vector<std::vector<std::int16_t>> stored;
  std::vector<StoredSlice> slices;
  for (std::uint32_t k = 0; k < kSize[2]; ++k) {
    std::vector<std::int16_t>& values = stored.emplace_back();
    for (std::uint32_t n = 0; n < kSize[0] * kSize[1]; ++n) {
      values.push_back(static_cast<std::int16_t>(static_cast<int>(random.Below(4000)) - 1000));
    }
  }
  for (std::uint32_t k = 0; k < kSize[2]; ++k) slices.push_back(SliceOf(stored[k], 1.1, -7 * double{1} * k));
  slices[30] = StoredSlice();
  slices[30].between = Between{29, 31, 0.5};
  const at::Tensor volume = StoredToFloat(slices, kSize, {}).value();
  const std::span<const float> floats = testing::Floats(volume);
  std::vector<RowRun> runs;
  double sum = 0;
  std::vector<double> values;
  for (std::int32_t k = 0; k < 60; ++k) {
    for (std::int32_t j = 0; j < 90; ++j) {
      const auto first = static_cast<std::int32_t>(random.Below(6));
      const auto last = first + static_cast<std::int32_t>(random.Below(7));
      runs.push_back({k, j, first, last});
      for (std::int32_t i = first; i <= last; ++i) {
        values.push_back(static_cast<double>(floats[static_cast<std::size_t>((k * 90 + j) * 13 + i)]));
        sum += values.back();
      }
    }
  }
  const ValueStatistics one = Measured(slices, kSize, runs);
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  EXPECT_EQ(one.values, values.size());
  EXPECT_NEAR(one.mean, mean, 1e-9);
  EXPECT_NEAR(one.deviation, std::sqrt(squares / static_cast<double>(values.size())), 1e-9);
  const ValueStatistics three = Measured(slices, kSize, runs, {}, 3);
  EXPECT_EQ(one.mean, three.mean);
  EXPECT_EQ(one.deviation, three.deviation);
}

TEST(ObjectValuesTest, SlicesThatDoNotFitAreRefused) {
  EXPECT_EQ(base::ReasonOf(StoredValues::Create(std::vector{SliceOf(kFirst, 1, 0)}, {3, 2, 2}).status()),
            "SLICE_COUNT");
  EXPECT_EQ(base::ReasonOf(StoredValues::Create(std::vector{SliceOf(kFirst, 1, 0)}, {3, 3, 1}).status()),
            "SLICE_BYTES");
}

}  // namespace
}  // namespace tomoserve::compute
