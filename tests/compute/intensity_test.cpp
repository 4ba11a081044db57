#include "tomoserve/compute/intensity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

using testing::MakeTensor;
using testing::Values;

class IntensityTest : public testing::PlacedTest {
 protected:
  absl::StatusOr<std::vector<float>> Apply(const std::vector<v1::IntensityStep>& steps,
                                           const std::vector<float>& values, int threads = 1) {
    return ApplyAt(placement(), steps, values, threads);
  }

  static absl::StatusOr<std::vector<float>> ApplyAt(const Placement& placement,
                                                    const std::vector<v1::IntensityStep>& steps,
                                                    const std::vector<float>& values, int threads = 1) {
    at::Tensor volume =
        MakeTensor({1, 1, static_cast<std::int64_t>(values.size())}, values).to(placement.device);
    v1::Preparation preparation;
    for (const v1::IntensityStep& step : steps) *preparation.add_intensity() = step;
    TS_RETURN_IF_ERROR(ApplyIntensity(preparation.intensity(), volume, {threads, {}}, placement));
    return Values(volume);
  }
};

v1::IntensityStep Range(double from_min, double from_max, double to_min, double to_max, bool clip) {
  v1::IntensityStep step;
  step.mutable_scale_range()->set_from_min(from_min);
  step.mutable_scale_range()->set_from_max(from_max);
  step.mutable_scale_range()->set_to_min(to_min);
  step.mutable_scale_range()->set_to_max(to_max);
  step.mutable_scale_range()->set_clip(clip);
  return step;
}

v1::IntensityStep MinMax(double to_min, double to_max) {
  v1::IntensityStep step;
  step.mutable_scale_min_max()->set_to_min(to_min);
  step.mutable_scale_min_max()->set_to_max(to_max);
  return step;
}

v1::IntensityStep ZScore(bool nonzero) {
  v1::IntensityStep step;
  step.mutable_z_score()->set_nonzero(nonzero);
  return step;
}

TEST_P(IntensityTest, ScalesARangeAndClips) {
  EXPECT_THAT(*Apply({Range(-1000, 400, 0, 1, true)}, {-1000, 400, -300, 3000, -1024}),
              ::testing::ElementsAre(0, 1, 0.5, 1, 0));
  EXPECT_THAT(*Apply({Range(0, 10, -1, 1, false)}, {0, 10, 20}), ::testing::ElementsAre(-1, 1, 3));
}

TEST_P(IntensityTest, ClipsThenMultipliesAndAdds) {
  v1::IntensityStep clip;
  clip.mutable_clip()->set_min(-1024);
  clip.mutable_clip()->set_max(3071);
  v1::IntensityStep affine;
  affine.mutable_affine()->set_scale(2);
  affine.mutable_affine()->set_shift(1024);
  EXPECT_THAT(*Apply({clip, affine}, {-2000, 0, 5000}), ::testing::ElementsAre(-1024, 1024, 7166));
}

TEST_P(IntensityTest, ZScoreUsesPopulationDeviationAndLeavesZerosWhereAsked) {
  EXPECT_THAT(*Apply({ZScore(false)}, {1, 3, 1, 3}), ::testing::ElementsAre(-1, 1, -1, 1));
  EXPECT_THAT(*Apply({ZScore(true)}, {0, 1, 3, 0}), ::testing::ElementsAre(0, -1, 1, 0));
  EXPECT_THAT(*Apply({ZScore(false)}, {7, 7}), ::testing::ElementsAre(0, 0));
  EXPECT_THAT(*Apply({ZScore(true)}, {0, 0}), ::testing::ElementsAre(0, 0));
  v1::IntensityStep fixed = ZScore(false);
  fixed.mutable_z_score()->set_mean(10);
  fixed.mutable_z_score()->set_std(2);
  EXPECT_THAT(*Apply({fixed}, {10, 14, 0}), ::testing::ElementsAre(0, 2, -5));
}

TEST_P(IntensityTest, OwnMinimumAndMaximum) {
  EXPECT_THAT(*Apply({MinMax(-1, 1)}, {-5, 5, 0, 2.5}), ::testing::ElementsAre(-1, 1, 0, 0.5));
  // MONAI's rule for a constant volume.
  EXPECT_THAT(*Apply({MinMax(-1, 1)}, {4, 4}), ::testing::ElementsAre(-4, -4));
}

TEST_P(IntensityTest, PercentilesInterpolateLinearly) {
  v1::IntensityStep step;
  step.mutable_scale_percentiles()->set_lower(10);
  step.mutable_scale_percentiles()->set_upper(75);
  step.mutable_scale_percentiles()->set_to_min(0);
  step.mutable_scale_percentiles()->set_to_max(1);
  // numpy.percentile([40, 0, 30, 10, 20], [10, 75]) = [4, 30]
  const auto values = Apply({step}, {40, 0, 30, 10, 20});
  ASSERT_TRUE(values.ok());
  EXPECT_NEAR((*values)[0], 36.0 / 26, 1e-6);
  EXPECT_NEAR((*values)[1], -4.0 / 26, 1e-6);
  EXPECT_NEAR((*values)[2], 1, 1e-6);
}

v1::IntensityStep Percentiles(double lower, double upper, bool clip) {
  v1::IntensityStep step;
  step.mutable_scale_percentiles()->set_lower(lower);
  step.mutable_scale_percentiles()->set_upper(upper);
  step.mutable_scale_percentiles()->set_to_max(1);
  step.mutable_scale_percentiles()->set_clip(clip);
  return step;
}

// numpy.percentile of float32 values by sorting.
float SortedPercentile(std::vector<float> values, double q) {
  std::sort(values.begin(), values.end());
  const double rank = static_cast<double>(values.size() - 1) * (q / 100);
  const auto below = static_cast<std::size_t>(rank);
  const float low = values[below];
  const float high = values[std::min(below + 1, values.size() - 1)];
  const double weight = rank - std::floor(rank);
  return static_cast<float>(weight < 0.5
                                ? static_cast<double>(low) + static_cast<double>(high - low) * weight
                                : static_cast<double>(high) - static_cast<double>(high - low) * (1 - weight));
}

TEST_P(IntensityTest, PercentilesEqualThoseOfSortedValues) {
  testing::Random random(12);
  for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{7}, std::size_t{70'001}}) {
    std::vector<float> values(count);
    for (std::size_t v = 0; v < count; ++v) {
      const auto value = static_cast<float>(random.Between(-1, 1));
      values[v] = v % 5 == 0 ? -0.0f : v % 2 == 0 ? value : std::round(value * 1000);
    }
    for (const auto& [lower, upper] : {std::pair{0.0, 100.0}, {2.0, 98.0}, {0.5, 99.9}, {49.0, 51.0}}) {
      const float low = SortedPercentile(values, lower);
      const float high = SortedPercentile(values, upper);
      const auto found = Apply({Percentiles(lower, upper, true)}, values, 2);
      ASSERT_TRUE(found.ok()) << found.status();
      for (std::size_t v = 0; v < count; v += 1 + count / 1000) {
        const float scaled = (values[v] - low) / (low == high ? 1 : high - low);
        ASSERT_EQ((*found)[v], low == high ? values[v] - low : std::clamp(scaled, 0.0f, 1.0f)) << count << v;
      }
    }
  }
}

TEST_P(IntensityTest, PercentilesOfAConstantVolumeShiftIt) {
  v1::IntensityStep step = Percentiles(2, 98, true);
  step.mutable_scale_percentiles()->set_to_min(-1);
  EXPECT_THAT(*Apply({step}, {300, 300, 300}), ::testing::Each(-1));
}

// Loops and tensors differ in how chunks are summed and in nothing else.
TEST_P(IntensityTest, PlacementsAgreeWithinRounding) {
  testing::Random random(8);
  std::vector<float> values(100'003);
  for (std::size_t v = 0; v < values.size(); ++v) {
    values[v] = v % 3 == 0 ? 0 : static_cast<float>(std::round(random.Between(-1000, 1000)) / 4);
  }
  const std::vector<std::vector<v1::IntensityStep>> recipes{
      {ZScore(true), MinMax(-1, 1)},  {ZScore(false)},
      {Range(-300, 200, 0, 2, true)}, {Percentiles(0, 99.9, true)},
      {Percentiles(0.5, 100, false)}, {Percentiles(30, 50, true)},
      {Percentiles(40, 45, false)}};  // the last within the zeros
  for (const auto& steps : recipes) {
    const auto expected = ApplyAt({}, steps, values);
    const auto found = Apply(steps, values);
    ASSERT_TRUE(expected.ok()) << expected.status();
    ASSERT_TRUE(found.ok()) << found.status();
    float largest = 0;
    for (std::size_t v = 0; v < values.size(); ++v) {
      largest = std::max(largest, std::abs((*found)[v] - (*expected)[v]));
    }
    EXPECT_LE(largest, 1e-6f * (1 + std::abs(*std::max_element(expected->begin(), expected->end()))));
  }
}

TEST_P(IntensityTest, OneFlagTellsWhetherAllIsFinite) {
  std::vector<float> values(1000, 3);
  const auto flag = [&] { return AllFiniteFlag(Put(MakeTensor({10, 100}, values)).t()).item<bool>(); };
  EXPECT_TRUE(flag());
  values[0] = std::numeric_limits<float>::max();
  EXPECT_TRUE(flag());
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const std::size_t place : {std::size_t{0}, std::size_t{517}, std::size_t{999}}) {
      std::vector<float> good(1000, -1);
      good[place] = bad;
      std::swap(good, values);
      EXPECT_FALSE(flag());
      EXPECT_FALSE(AllFinite(Put(MakeTensor({10, 100}, values)).t()));
      std::swap(good, values);
    }
  }
}

TEST_P(IntensityTest, StatisticsOfLargeVolumesAreExactEnoughAndDoNotDependOnThreads) {
  testing::Random random(5);
  std::vector<float> values(1'000'000);
  double sum = 0;
  for (float& v : values) {
    v = static_cast<float>(random.Between(900, 1100));
    sum += static_cast<double>(v);
  }
  const double mean = sum / 1e6;
  double squares = 0;
  for (const float v : values) squares += (static_cast<double>(v) - mean) * (static_cast<double>(v) - mean);
  const auto one = Apply({ZScore(false), MinMax(-1, 1), ZScore(true)}, values, 1);
  const auto two = Apply({ZScore(false), MinMax(-1, 1), ZScore(true)}, values, 2);
  EXPECT_EQ(*one, *two);
  const auto scored = Apply({ZScore(false)}, values, 2);
  EXPECT_NEAR((*scored)[17], (static_cast<double>(values[17]) - mean) / std::sqrt(squares / 1e6), 1e-6);
}

TEST_P(IntensityTest, RefusesEmptyStepsRangesAndNumbersThatAreNone) {
  const auto reason = [&](const std::vector<v1::IntensityStep>& steps, const std::vector<float>& values) {
    return base::ReasonOf(Apply(steps, values).status());
  };
  EXPECT_EQ(reason({v1::IntensityStep()}, {1}), "INTENSITY_INVALID");
  EXPECT_EQ(reason({Range(5, 5, 0, 1, true)}, {1}), "INTENSITY_INVALID");
  v1::IntensityStep half = ZScore(false);
  half.mutable_z_score()->set_mean(3);
  EXPECT_EQ(reason({half}, {1}), "INTENSITY_INVALID");
  EXPECT_EQ(reason({}, {1, std::numeric_limits<float>::quiet_NaN()}), "NOT_FINITE");
  EXPECT_EQ(reason({Range(0, 1e-30, 0, 1e30, false)}, {1}), "NOT_FINITE");
}

TS_INSTANTIATE_PLACES(IntensityTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
