#include "tomoserve/compute/windows.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/div.h>
#include <ATen/ops/max.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "compute/places.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;

at::Tensor Numbered(std::int64_t x, std::int64_t y, std::int64_t z) {
  return at::arange(x * y * z, at::kFloat).view({x, y, z});
}

TEST(WindowsTest, MonaiSnapsTheLastWindowAndRunsZFastest) {
  const auto plan = MonaiWindows({10, 4, 7}, {4, 4, 4}, 0.25);
  ASSERT_TRUE(plan.ok());
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, 0}, Xyz{0, 0, 3}, Xyz{3, 0, 0}, Xyz{3, 0, 3}, Xyz{6, 0, 0},
                                        Xyz{6, 0, 3}));
}

TEST(WindowsTest, MonaiIntervalIsCutToAnInteger) {
  // int(5 * (1 - 0.3)) = 3
  const auto plan = MonaiWindows({1, 1, 12}, {1, 1, 5}, 0.3);
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, 0}, Xyz{0, 0, 3}, Xyz{0, 0, 6}, Xyz{0, 0, 7}));
  // Never below one voxel.
  EXPECT_EQ(MonaiWindows({1, 1, 5}, {1, 1, 2}, 0.9)->starts.size(), 4u);
}

TEST(WindowsTest, SmallVolumesArePaddedOnBothSides) {
  const auto plan = MonaiWindows({5, 8, 8}, {8, 8, 8}, 0.5);
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{-1, 0, 0}));
}

TEST(WindowsTest, EverySliceIsAnsweredOnce) {
  const auto plan = SliceWindows({5, 6, 3}, 4, 3, 4);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->size, (Xyz{8, 8, 8}));
  EXPECT_EQ(plan->output_size, (Xyz{8, 8, 1}));
  EXPECT_EQ(plan->output_offset, (Xyz{0, 0, 4}));
  EXPECT_THAT(plan->starts, ElementsAre(Xyz{0, 0, -4}, Xyz{0, 0, -3}, Xyz{0, 0, -2}));
}

TEST(WindowsTest, RefusesNonsenseAndTooMany) {
  EXPECT_EQ(base::ReasonOf(MonaiWindows({5, 5, 5}, {0, 1, 1}, 0).status()), "WINDOW_INVALID");
  EXPECT_EQ(base::ReasonOf(MonaiWindows({5, 5, 5}, {1, 1, 1}, 1).status()), "WINDOW_INVALID");
  EXPECT_EQ(base::ReasonOf(MonaiWindows({512, 512, 512}, {2, 2, 2}, 0.5).status()), "TOO_MANY_WINDOWS");
  EXPECT_EQ(base::ReasonOf(SliceWindows({5, 5, 5}, 1 << 20, 0, 1).status()), "WINDOW_INVALID");
}

// Cutting and adding is the same code in every placement.
class WindowTensorsTest : public testing::PlacedTest {};

TEST_P(WindowTensorsTest, CutsInsideWithoutPadding) {
  const at::Tensor volume = Put(Numbered(4, 5, 6));
  const at::Tensor window = CutWindow(volume, {1, 2, 3}, {2, 3, 2}, v1::PADDING_MODE_CONSTANT, 9);
  EXPECT_TRUE(window.equal(volume.narrow(0, 1, 2).narrow(1, 2, 3).narrow(2, 3, 2)));
  EXPECT_TRUE(window.is_contiguous());
}

TEST_P(WindowTensorsTest, LargeWindowsOfAnyOrderOfMemoryAreCutExactly) {
  const at::Tensor memory = Put(Numbered(67, 53, 71));
  for (const std::vector<std::int64_t>& order : std::vector<std::vector<std::int64_t>>{
           {0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {2, 0, 1}, {1, 2, 0}, {0, 2, 1}}) {
    const at::Tensor volume = memory.permute(order);
    const at::Tensor inside = CutWindow(volume, {1, 2, 3}, {47, 45, 46}, v1::PADDING_MODE_CONSTANT, 9);
    EXPECT_TRUE(inside.equal(volume.narrow(0, 1, 47).narrow(1, 2, 45).narrow(2, 3, 46)));
    EXPECT_TRUE(inside.is_contiguous());
    const at::Tensor padded = CutWindow(volume, {-5, 3, -1}, {64, 48, 60}, v1::PADDING_MODE_CONSTANT, 9);
    const std::int64_t x = std::min<std::int64_t>(volume.size(0), 59);
    const std::int64_t z = std::min<std::int64_t>(volume.size(2), 59);
    EXPECT_TRUE(padded.narrow(0, 5, x).narrow(2, 1, z).equal(
        volume.narrow(0, 0, x).narrow(1, 3, 48).narrow(2, 0, z)));
    EXPECT_EQ(padded.narrow(0, 0, 5).ne(9).sum().item<std::int64_t>(), 0);
    EXPECT_EQ(padded.narrow(2, 0, 1).ne(9).sum().item<std::int64_t>(), 0);
  }
}

TEST_P(WindowTensorsTest, PadsWithAConstantOrTheEdge) {
  const at::Tensor volume = Put(Numbered(2, 2, 3));
  const at::Tensor constant = CutWindow(volume, {-1, 0, 1}, {4, 2, 4}, v1::PADDING_MODE_CONSTANT, -5);
  const at::Tensor zero = CutWindow(volume, {-1, 0, 1}, {4, 2, 4}, v1::PADDING_MODE_UNSPECIFIED, -5);
  const at::Tensor edge = CutWindow(volume, {-1, 0, 1}, {4, 2, 4}, v1::PADDING_MODE_REPLICATE, -5);
  for (std::int64_t x = 0; x < 4; ++x) {
    for (std::int64_t y = 0; y < 2; ++y) {
      for (std::int64_t z = 0; z < 4; ++z) {
        const bool inside = x >= 1 && x <= 2 && z <= 1;
        const auto at_edge =
            volume[std::clamp<std::int64_t>(x - 1, 0, 1)][y][std::min<std::int64_t>(z + 1, 2)].item<float>();
        EXPECT_EQ(constant[x][y][z].item<float>(), inside ? at_edge : -5);
        EXPECT_EQ(zero[x][y][z].item<float>(), inside ? at_edge : 0);
        EXPECT_EQ(edge[x][y][z].item<float>(), at_edge);
      }
    }
  }
}

TEST_P(WindowTensorsTest, WindowsNeverShareMemoryWithTheVolume) {
  const at::Tensor volume = Put(Numbered(2, 2, 2));
  for (const auto mode : {v1::PADDING_MODE_CONSTANT, v1::PADDING_MODE_REPLICATE}) {
    CutWindow(volume, {0, 0, 0}, {2, 2, 2}, mode, 0).fill_(77);
    EXPECT_TRUE(volume.cpu().equal(Numbered(2, 2, 2)));
  }
}

TEST_P(WindowTensorsTest, SumsAndWeightsOfOverlapsGiveTheVolumeBack) {
  const Xyz size{7, 6, 9};
  const at::Tensor volume = Put(Numbered(7, 6, 9).unsqueeze(0));
  for (const bool gaussian : {false, true}) {
    const auto plan = MonaiWindows(size, {4, 8, 4}, 0.5);
    const at::Tensor importance = gaussian ? Put(GaussianImportance({4, 8, 4}, 0.125)) : at::Tensor();
    at::Tensor sums = at::zeros({1, 7, 6, 9}, volume.options());
    at::Tensor weights = at::zeros({7, 6, 9}, volume.options());
    for (const Xyz& start : plan->starts) {
      const at::Tensor window = CutWindow(volume[0], start, {4, 8, 4}, v1::PADDING_MODE_CONSTANT, -1e6);
      AddWindow(window.unsqueeze(0), importance, start, sums);
    }
    AddWeights(*plan, importance, weights);
    EXPECT_GT(weights.min().item<float>(), 0);
    EXPECT_LT(sums.div(weights).sub(volume).abs().max().item<float>(), 1e-3);
  }
}

TS_INSTANTIATE_PLACES(WindowTensorsTest, testing::TensorPlaces());

// Golden cases.

class GoldenWindows : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenWindows, StartsEqualMonai) {
  const auto file = testing::Reference() / GetParam() / "intermediate.npz";
  TS_SKIP_WITHOUT(file);
  const testing::NpyArray golden = testing::ReadNpz(file).at("window_starts");
  ASSERT_EQ(golden.type, "<i4");
  const auto expected = golden.As<std::int32_t>();
  const bool a = std::string(GetParam()) == "a_spleen_like";
  const auto plan = a ? MonaiWindows({288, 288, 158}, {96, 96, 96}, 0.5)
                      : MonaiWindows({144, 144, 106}, {96, 96, 96}, 0.25);
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->starts.size() * 3, expected.size());
  for (std::size_t v = 0; v < expected.size(); ++v) EXPECT_EQ(plan->starts[v / 3][v % 3], expected[v]);
}

TEST_P(GoldenWindows, ImportanceEqualsMonai) {
  const auto file = testing::Reference() / GetParam() / "intermediate.npz";
  TS_SKIP_WITHOUT(file);
  const auto golden = testing::ReadNpz(file);
  const auto profile = golden.at("importance_profile").As<float>();
  const auto diagonal = golden.at("importance_diag").As<double>();
  if (std::string(GetParam()) ==
      "a_spleen_like") {  // constant blend: weight 1, which AddWindow takes for granted
    for (const float weight : profile) EXPECT_EQ(weight, 1);
    return;
  }
  const at::Tensor importance = GaussianImportance({96, 96, 96}, 0.125);
  ASSERT_EQ(profile.size(), 96u);
  for (std::int64_t i = 0; i < 96; ++i) {
    EXPECT_NEAR(importance[i][48][48].item<float>(), profile[static_cast<std::size_t>(i)], 2e-7);
    EXPECT_NEAR(importance[i][i][i].item<float>(), diagonal[static_cast<std::size_t>(i)], 2e-7);
  }
  EXPECT_EQ(importance.min().item<float>(), 1e-3f);
}

INSTANTIATE_TEST_SUITE_P(Monai, GoldenWindows, ::testing::Values("a_spleen_like", "b_wholebody_like"));

}  // namespace
}  // namespace tomoserve::compute
