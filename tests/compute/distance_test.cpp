#include "tomoserve/compute/distance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "random.h"

namespace tomoserve::compute {
namespace {

using Runs = std::vector<RowRun>;

double Between(const Runs& a, const Runs& b, const std::array<double, 3>& spacing_mm) {
  return LeastDistanceMm(RunsBySlice(a), RunsBySlice(b), spacing_mm);
}

TEST(DistanceTest, IsTheGapBetweenVoxelsAlongEachAxis) {
  const std::array<double, 3> spacing{0.5, 2, 5};
  const Runs object{{10, 10, 10, 12}};                               // k, j, i
  EXPECT_EQ(Between(object, {{10, 10, 20, 30}}, spacing), 7 * 0.5);  // 13 to 19
  EXPECT_EQ(Between(object, {{10, 10, 0, 4}}, spacing), 5 * 0.5);    // 5 to 9
  EXPECT_EQ(Between(object, {{10, 14, 12, 12}}, spacing), 3 * 2);    // 11 to 13
  EXPECT_EQ(Between(object, {{7, 10, 0, 50}}, spacing), 2 * 5);      // 8 and 9
  EXPECT_EQ(Between(object, {{13, 7, 16, 16}}, spacing), std::hypot(1.5, 4, 10));
}

TEST(DistanceTest, IsNothingWhereVoxelsTouchOrOverlap) {
  const Runs object{{10, 10, 10, 12}};
  for (const RowRun& other : Runs{{10, 10, 13, 13}, {10, 11, 10, 10}, {11, 11, 13, 20}, {10, 10, 11, 11}}) {
    EXPECT_EQ(Between(object, {other}, {0.7, 0.7, 5}), 0);
  }
  EXPECT_GT(Between(object, {{10, 10, 14, 14}}, {0.7, 0.7, 5}), 0);
}

TEST(DistanceTest, TakesTheNearestOfManyRuns) {
  // In voxels the first is nearest, in millimetres the last.
  const Runs other{{4, 10, 10, 10}, {10, 10, 0, 1}, {10, 10, 17, 18}};
  EXPECT_EQ(Between({{6, 10, 10, 10}}, other, {1, 1, 1}), 1);
  EXPECT_EQ(Between({{7, 10, 10, 10}, {10, 10, 10, 10}}, other, {0.5, 1, 9}), 3);
}

TEST(DistanceTest, OfNothingIsInfinite) {
  EXPECT_EQ(Between({{1, 1, 1, 1}}, {}, {1, 1, 1}), std::numeric_limits<double>::infinity());
  EXPECT_EQ(Between({}, {{1, 1, 1, 1}}, {1, 1, 1}), std::numeric_limits<double>::infinity());
}

// Runs of a random mask inside a box.
Runs RandomRuns(testing::Random& random, std::array<std::int32_t, 3> first_kji, std::int64_t rarity) {
  Runs runs;
  for (std::int32_t k = 0; k < 6; ++k) {
    for (std::int32_t j = 0; j < 7; ++j) {
      for (std::int32_t i = 0; i < 9; ++i) {
        if (random.Below(rarity) != 0) continue;
        const RowRun voxel{first_kji[0] + k, first_kji[1] + j, first_kji[2] + i, first_kji[2] + i};
        const bool joins = !runs.empty() && runs.back().k == voxel.k && runs.back().j == voxel.j &&
                           runs.back().last_i + 1 == voxel.first_i;
        if (joins) {
          ++runs.back().last_i;
        } else {
          runs.push_back(voxel);
        }
      }
    }
  }
  return runs;
}

// The specification: every voxel of one with every voxel of the other.
double Plain(const Runs& a, const Runs& b, const std::array<double, 3>& spacing) {
  double least = std::numeric_limits<double>::infinity();
  const auto gap_mm = [](std::int32_t from, std::int32_t to, double mm) {
    return std::max(std::abs(from - to) - 1, 0) * mm;
  };
  for (const RowRun& from : a) {
    for (const RowRun& to : b) {
      for (std::int32_t i = from.first_i; i <= from.last_i; ++i) {
        for (std::int32_t n = to.first_i; n <= to.last_i; ++n) {
          least = std::min(least, std::hypot(gap_mm(i, n, spacing[0]), gap_mm(from.j, to.j, spacing[1]),
                                             gap_mm(from.k, to.k, spacing[2])));
        }
      }
    }
  }
  return least;
}

TEST(DistanceTest, EqualsThePlainSearch) {
  testing::Random random(7);
  int apart = 0;
  for (int n = 0; n < 400; ++n) {
    const auto place = [&] { return static_cast<std::int32_t>(random.Below(20)); };
    const std::int64_t rarity = 3 + random.Below(60);
    const Runs a = RandomRuns(random, {place(), place(), place()}, rarity);
    const Runs b = RandomRuns(random, {place(), place(), place()}, rarity);
    const auto mm = [&] { return 0.25 * static_cast<double>(1 + random.Below(20)); };
    const std::array<double, 3> spacing{mm(), mm(), mm()};
    const double expected = Plain(a, b, spacing);
    if (std::isinf(expected)) {
      EXPECT_EQ(Between(a, b, spacing), expected);
      continue;
    }
    EXPECT_NEAR(Between(a, b, spacing), expected, 1e-12 * expected) << n;
    apart += expected > 0 ? 1 : 0;
  }
  EXPECT_GT(apart, 100);
}

}  // namespace
}  // namespace tomoserve::compute
