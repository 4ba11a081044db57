#include "tomoserve/compute/nnunet_windows.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Half.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "compute/places.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;
using testing::Values;

constexpr std::array<std::size_t, 3> kXyz{0, 1, 2};

TEST(NnunetWindowsTest, AreEvenlySpacedAndRoundedHalfToEven) {
  // ceil((110 - 64) / 32) + 1 = 3, 23 apart; ceil((69 - 64) / 32) + 1 = 2; 2.5 and 7.5 are rounded to 2
  // and 8.
  const auto plan = NnunetWindows({1, 110, 69}, {1, 64, 64}, 0.5, kXyz);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, 0}, Xyz{0, 0, 5}, Xyz{0, 23, 0}, Xyz{0, 23, 5},
                                        Xyz{0, 46, 0}, Xyz{0, 46, 5}));
  const auto halves = NnunetWindows({1, 1, 16}, {1, 1, 6}, 0.5, kXyz);
  ASSERT_TRUE(halves.ok());
  EXPECT_THAT(halves->starts,
              ElementsAre(Xyz{0, 0, 0}, Xyz{0, 0, 2}, Xyz{0, 0, 5}, Xyz{0, 0, 8}, Xyz{0, 0, 10}));
}

TEST(NnunetWindowsTest, OtherOverlapsAreOneMinusTheStep) {
  EXPECT_EQ(NnunetWindows({1, 1, 100}, {1, 1, 20}, 0.75, kXyz)->starts.size(), 17u);
}

TEST(NnunetWindowsTest, SmallVolumesArePaddedOnBothSides) {
  const auto plan = NnunetWindows({5, 8, 25}, {8, 8, 32}, 0.5, kXyz);
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{-1, 0, -3}));
}

TEST(NnunetWindowsTest, TheNetworksFirstAxisIsTheSlowest) {
  const auto plan = NnunetWindows({6, 1, 6}, {4, 1, 4}, 0.5, {2, 1, 0});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, 0}, Xyz{2, 0, 0}, Xyz{0, 0, 2}, Xyz{2, 0, 2}));
}

TEST(NnunetWindowsTest, WindowsOfOneSliceSeeEachSliceOnce) {
  const auto plan = NnunetWindows({4, 4, 3}, {4, 4, 1}, 0.5, {2, 0, 1});
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, 0}, Xyz{0, 0, 1}, Xyz{0, 0, 2}));
}

TEST(NnunetWindowsTest, RefusesNonsenseAndTooMany) {
  EXPECT_EQ(base::ReasonOf(NnunetWindows({5, 5, 5}, {0, 1, 1}, 0.5, kXyz).status()), "WINDOW_INVALID");
  EXPECT_EQ(base::ReasonOf(NnunetWindows({5, 5, 5}, {2, 2, 2}, 0, kXyz).status()), "WINDOW_INVALID");
  EXPECT_EQ(base::ReasonOf(NnunetWindows({5, 5, 5}, {2, 2, 2}, 1, kXyz).status()), "WINDOW_INVALID");
  EXPECT_EQ(base::ReasonOf(NnunetWindows({512, 512, 512}, {2, 2, 2}, 0.5, kXyz).status()),
            "TOO_MANY_WINDOWS");
  EXPECT_EQ(base::ReasonOf(NnunetWindows({512, 1, 1}, {2, 1, 1}, 1 - 1e-12, kXyz).status()),
            "TOO_MANY_WINDOWS");
}

TEST(NnunetWindowsTest, ImportanceEqualsComputeGaussian) {
  // compute_gaussian((5, 8, 6), 1 / 8, 10) of nnU-Net's z, y, x.
  const at::Tensor map = NnunetImportance({6, 8, 5}, 0.125);
  const auto equals = [](const std::vector<float>& line) {
    return ::testing::Pointwise(::testing::FloatEq(), line);
  };
  EXPECT_THAT(Values(map.select(1, 4).select(1, 2)),
              equals({0.003355026f, 0.2856445f, 4.109375f, 10, 4.109375f, 0.2856445f}));
  EXPECT_THAT(Values(map.select(0, 3).select(1, 2)),
              equals({0.003355026f, 0.111084f, 1.353516f, 6.066406f, 10, 6.066406f, 1.353516f, 0.111084f}));
  EXPECT_THAT(Values(map.select(0, 3).select(0, 4)),
              equals({0.05975342f, 2.78125f, 10, 2.78125f, 0.05975342f}));
  EXPECT_FLOAT_EQ(map[0][0][0].item<float>(), 2.3841858e-07f);
  EXPECT_FLOAT_EQ(map[5][7][4].item<float>(), 1.8954277e-05f);
  // Too small for float16: raised to the smallest that is not.
  EXPECT_EQ(NnunetImportance({96, 96, 32}, 0.125).min().item<float>(), std::ldexp(1.0f, -24));
}

class HalfSumsTest : public testing::PlacedTest {};

TEST_P(HalfSumsTest, AreRoundedAfterEachWindow) {
  // 2048 + 1 is 2048 in float16: three windows of 1 on 2048 add nothing.
  at::Tensor sums = Put(at::zeros({1, 2, 2, 4}, at::kFloat));
  const auto add = [&](float value, std::int64_t start) {
    AddWindowInHalf(Put(at::full({1, 2, 2, 2}, value, at::kFloat)), {}, {0, 0, start}, sums);
  };
  add(2048, 0);
  for (int n = 0; n < 3; ++n) add(1, 1);
  EXPECT_THAT(Values(sums.select(1, 0).select(1, 0)), ElementsAre(2048, 2048, 3, 0));
}

TEST_P(HalfSumsTest, WeightsTooAndOnlyWhereTheyChange) {
  at::Tensor weights = Put(at::zeros({1, 1, 4}, at::kFloat));
  const at::Tensor importance = Put(at::full({1, 1, 2}, 0.1f, at::kFloat));
  AddWeightsInHalf({{1, 1, 2}, {{0, 0, 0}, {0, 0, 1}}, {1, 1, 2}, {}}, importance, weights);
  const auto half = [](float value) { return static_cast<float>(c10::Half(value)); };
  EXPECT_THAT(Values(weights), ElementsAre(half(0.1f), half(half(0.1f) + 0.1f), half(0.1f), 0));
}

TS_INSTANTIATE_PLACES(HalfSumsTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::compute
