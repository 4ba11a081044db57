// What the network sees of the volume, and where its answers go.
#include "tomoserve/pipeline/prepared_run.h"

#include <ATen/ops/arange.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using testing::Identity;
using testing::SpotRecipe;
using testing::StoredVolume;

v1::Recipe SliceRecipe(std::uint32_t before, std::uint32_t after, std::uint32_t spatial_dims) {
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_windows()->Clear();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  recipe.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
  recipe.mutable_windows()->set_xy_multiple_of(4);
  recipe.mutable_windows()->mutable_context()->set_before(before);
  recipe.mutable_windows()->mutable_context()->set_after(after);
  recipe.mutable_network()->set_spatial_dims(spatial_dims);
  recipe.mutable_network()->set_input_channels(spatial_dims == 2 ? before + 1 + after : 1);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX);
  return recipe;
}

class PreparedRunTest : public testing::PlacedRunTest {};

TEST_P(PreparedRunTest, WindowsOfAnIdentityNetworkBlendToTheVolume) {
  const auto geometry = AxialGeometry({37, 20, 9}, {1, 1, 1});
  StoredVolume stored = testing::RandomVolume(geometry, 1);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_decode(0)->mutable_threshold()->set_above(999.5);
  const auto outcome = Run(recipe, geometry, stored.Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::size_t v = 0;
  for (std::uint32_t k = 0; k < 9; ++k) {
    for (std::uint32_t j = 0; j < 20; ++j) {
      for (std::uint32_t i = 0; i < 37; ++i) {
        ASSERT_EQ(outcome->labels[v++], stored.At(i, j, k) > 999 ? 1 : 0);
      }
    }
  }
}

TEST_P(PreparedRunTest, SlabsOfAThreeDimensionalNetworkAnswerOneSlice) {
  const auto geometry = AxialGeometry({9, 6, 12}, {1, 1, 1});
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < 12; ++k) {
    for (std::uint32_t j = 0; j < 6; ++j) {
      for (std::uint32_t i = 0; i < 9; ++i)
        stored.At(i, j, k) = static_cast<std::int16_t>(100 * k + 10 * j + i);
    }
  }
  std::vector<std::vector<float>>
      seen;  // slab values at the last pixel of rows and columns, padding included
  const auto outcome = Run(SliceRecipe(4, 3, 3), geometry, stored.Slices(), [&](const at::Tensor& input) {
    EXPECT_EQ(input.sizes(), (std::vector<std::int64_t>{1, 1, 8, 8, 12}));
    std::vector<float>& corner = seen.emplace_back();
    for (std::int64_t z = 0; z < 8; ++z) corner.push_back(input[0][0][z][7][11].item<float>());
    return absl::StatusOr<at::Tensor>(input.narrow(2, 4, 1).clone());
  });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(seen.size(), 12u);
  EXPECT_THAT(seen[0], ElementsAre(58, 58, 58, 58, 58, 158, 258, 358));
  EXPECT_THAT(seen[5], ElementsAre(158, 258, 358, 458, 558, 658, 758, 858));
  EXPECT_THAT(seen[11], ElementsAre(758, 858, 958, 1058, 1158, 1158, 1158, 1158));
  for (std::size_t v = 0; v < outcome->labels.size(); ++v) EXPECT_EQ(outcome->labels[v], v == 0 ? 0 : 1);
}

TEST_P(PreparedRunTest, ContextOfATwoDimensionalNetworkIsItsChannels) {
  const auto geometry = AxialGeometry({4, 4, 3}, {1, 1, 1});
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < 3; ++k) stored.At(1, 2, k) = static_cast<std::int16_t>(k + 1);
  std::vector<std::vector<float>> seen;
  const auto outcome = Run(SliceRecipe(1, 1, 2), geometry, stored.Slices(), [&](const at::Tensor& input) {
    EXPECT_EQ(input.sizes(), (std::vector<std::int64_t>{1, 3, 4, 4}));
    std::vector<float>& pixel = seen.emplace_back();
    for (std::int64_t c = 0; c < 3; ++c) pixel.push_back(input[0][c][2][1].item<float>());
    return absl::StatusOr<at::Tensor>(input.narrow(1, 1, 1).clone());
  });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_THAT(seen, ElementsAre(ElementsAre(1, 1, 2), ElementsAre(1, 2, 3), ElementsAre(2, 3, 3)));
}

TEST_P(PreparedRunTest, MirrorsAreAveragedAndMirroredBack) {
  const auto geometry = AxialGeometry({16, 16, 16}, {1, 1, 1});
  const StoredVolume stored(geometry);
  v1::Recipe recipe = SpotRecipe();
  for (const std::uint32_t axis : {0, 1, 2}) recipe.mutable_network()->add_mirror_axes(axis);
  std::atomic<int> calls{0};
  // What a network answers that cares only for its own axes: the place along the last one.
  const Forward ramp = [&](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
    ++calls;
    return at::arange(16, input.options()).expand(input.sizes()).clone();
  };
  const auto run = Create(recipe, geometry, stored.Slices());
  ASSERT_TRUE(run.ok()) << run.status();
  const auto output = (*run)->ForwardWindow(0, ramp);
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(calls, 8);
  EXPECT_EQ(output->tensors.front().min().item<float>(), 7.5f);
  EXPECT_EQ(output->tensors.front().max().item<float>(), 7.5f);
  recipe.mutable_network()->clear_mirror_axes();
  recipe.mutable_network()->add_mirror_axes(0);
  const auto along_x = Create(recipe, geometry, stored.Slices());
  const auto ramp_kept = (*along_x)->ForwardWindow(0, ramp);
  EXPECT_EQ(ramp_kept->tensors.front()[0][0][3][4][5].item<float>(), 5);
}

TEST_P(PreparedRunTest, IntensityBeforeSpacingIsAppliedToTheVolume) {
  const auto geometry = AxialGeometry({8, 8, 8}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(4, 4, 4) = 3000;
  v1::Recipe recipe = SpotRecipe();
  testing::SetSpacing(recipe, {0.5, 0.5, 0.5}, v1::INTERPOLATION_LINEAR);
  v1::Clip& clip = *recipe.mutable_preparation()->add_intensity()->mutable_clip();
  clip.set_max(1000);
  const auto halfway = [&](bool before) {
    recipe.mutable_preparation()->set_intensity_before_spacing(before);
    const auto run = Create(recipe, geometry, stored.Slices());
    return run.value()->Gather(0).value()[0][0][9][8][8].item<float>();
  };
  EXPECT_EQ(halfway(true), 500);
  EXPECT_EQ(halfway(false), 1000);
}

TS_INSTANTIATE_PLACES(PreparedRunTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
