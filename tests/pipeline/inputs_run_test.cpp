// Runs of recipes with several inputs: each volume is a channel of the network's input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using testing::RandomVolume;
using testing::SpotRecipe;
using testing::StoredVolume;

v1::Recipe RecipeOfInputs(std::uint32_t inputs) {
  v1::Recipe recipe = SpotRecipe();
  for (std::uint32_t n = 0; n < inputs; ++n) recipe.add_inputs()->set_name("input " + std::to_string(n));
  recipe.mutable_network()->set_input_channels(inputs);
  return recipe;
}

std::vector<compute::StoredSlice> SlicesOf(const std::vector<StoredVolume>& volumes) {
  std::vector<compute::StoredSlice> slices;
  for (const StoredVolume& volume : volumes) {
    for (const compute::StoredSlice& slice : volume.Slices()) slices.push_back(slice);
  }
  return slices;
}

// A network that looks at one channel only.
Forward Channel(std::int64_t channel) {
  return [channel](const at::Tensor& input) -> absl::StatusOr<Outputs> {
    return Outputs(input.narrow(1, channel, 1).clone());
  };
}

// Weights of a channel each, summed.
Forward WeightedSum(std::vector<double> weights) {
  return [weights](const at::Tensor& input) -> absl::StatusOr<Outputs> {
    at::Tensor sum = input.narrow(1, 0, 1).mul(weights[0]);
    for (std::size_t c = 1; c < weights.size(); ++c) {
      sum.add_(input.narrow(1, static_cast<std::int64_t>(c), 1).mul(weights[c]));
    }
    return Outputs(sum);
  };
}

// Expects label 1 exactly where `is_one`.
template <typename IsOne>
void ExpectLabels(const testing::Outcome& outcome, const volume::Geometry& geometry, IsOne is_one) {
  std::size_t v = 0;
  for (std::uint32_t k = 0; k < geometry.size_ijk()[2]; ++k) {
    for (std::uint32_t j = 0; j < geometry.size_ijk()[1]; ++j) {
      for (std::uint32_t i = 0; i < geometry.size_ijk()[0]; ++i) {
        ASSERT_EQ(outcome.labels[v++], is_one(i, j, k) ? 1 : 0) << i << ' ' << j << ' ' << k;
      }
    }
  }
}

class InputsRunTest : public testing::PlacedRunTest {};

TEST_P(InputsRunTest, EachInputIsItsOwnChannel) {
  const auto geometry = AxialGeometry({37, 20, 9}, {1, 1, 2});
  std::vector<StoredVolume> stored;
  for (const std::uint64_t seed : {1, 2, 3}) stored.push_back(RandomVolume(geometry, seed));
  v1::Recipe recipe = RecipeOfInputs(3);
  recipe.mutable_preparation()->set_orientation("IAR");
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_YZX);
  recipe.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(999.5);
  for (std::size_t c = 0; c < 3; ++c) {
    const auto outcome = Run(recipe, geometry, SlicesOf(stored), Channel(static_cast<std::int64_t>(c)), 2);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ExpectLabels(*outcome, geometry, [&](auto i, auto j, auto k) { return stored[c].At(i, j, k) > 999; });
  }
}

TEST_P(InputsRunTest, ANetworkSumsItsChannels) {
  const auto geometry = AxialGeometry({20, 18, 7}, {1, 1, 1});
  std::vector<StoredVolume> stored{RandomVolume(geometry, 4), RandomVolume(geometry, 5),
                                   RandomVolume(geometry, 6), RandomVolume(geometry, 7)};
  v1::Recipe recipe = RecipeOfInputs(4);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(-0.5);
  const auto outcome = Run(recipe, geometry, SlicesOf(stored), WeightedSum({1, -2, 4, -3}));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ExpectLabels(*outcome, geometry, [&](auto i, auto j, auto k) {
    return stored[0].At(i, j, k) - 2 * stored[1].At(i, j, k) + 4 * stored[2].At(i, j, k) -
               3 * stored[3].At(i, j, k) >=
           0;
  });
}

TEST_P(InputsRunTest, MirrorsTurnAllChannels) {
  const auto geometry = AxialGeometry({20, 12, 7}, {1, 1, 1});
  std::vector<StoredVolume> stored{RandomVolume(geometry, 8), RandomVolume(geometry, 9)};
  v1::Recipe recipe = RecipeOfInputs(2);
  for (const std::uint32_t axis : {0, 1, 2}) recipe.mutable_network()->add_mirror_axes(axis);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(999.5);
  const auto outcome = Run(recipe, geometry, SlicesOf(stored), Channel(1));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ExpectLabels(*outcome, geometry, [&](auto i, auto j, auto k) { return stored[1].At(i, j, k) > 999; });
}

TEST_P(InputsRunTest, ANetworkOfTwoDimensionsSeesOneSliceOfEach) {
  const auto geometry = AxialGeometry({9, 6, 4}, {1, 1, 1});
  std::vector<StoredVolume> stored{RandomVolume(geometry, 10), RandomVolume(geometry, 11)};
  v1::Recipe recipe = RecipeOfInputs(2);
  recipe.mutable_network()->set_spatial_dims(2);
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(999.5);
  const auto expect_channel_one = [&] {
    const auto run = Create(recipe, geometry, SlicesOf(stored));
    ASSERT_TRUE(run.ok()) << run.status();
    EXPECT_EQ((*run)->Gather(3).value()[0][1][2][5].item<float>(), stored[1].At(5, 2, 3));
    const auto outcome = Run(recipe, geometry, SlicesOf(stored), Channel(1));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ExpectLabels(*outcome, geometry, [&](auto i, auto j, auto k) { return stored[1].At(i, j, k) > 999; });
  };
  // Padded at the end only, so that pixels keep their places.
  recipe.mutable_windows()->Clear();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  recipe.mutable_windows()->set_xy_multiple_of(4);
  expect_channel_one();
  recipe.mutable_windows()->Clear();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (const std::uint32_t size : {9, 6, 1}) recipe.mutable_windows()->add_size(size);
  expect_channel_one();
}

TEST_P(InputsRunTest, TheCropHoldsWhatAnyInputHas) {
  const auto geometry = AxialGeometry({40, 30, 20}, {1, 1, 1});
  std::vector<StoredVolume> stored{StoredVolume(geometry), StoredVolume(geometry)};
  stored[0].At(10, 5, 4) = 7;
  stored[1].At(20, 9, 3) = 300;
  v1::Recipe recipe = RecipeOfInputs(2);
  recipe.mutable_preparation()->mutable_crop()->set_margin_voxels(1);
  const auto run = Create(recipe, geometry, SlicesOf(stored));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ((*run)->plan().box, (volume::Box{{9, 4, 2}, {13, 7, 4}}));
  EXPECT_LE((*run)->plan().peak_bytes, PlanRun(recipe, geometry, placement())->peak_bytes);
  const auto outcome = Run(recipe, geometry, SlicesOf(stored), WeightedSum({1, 2}));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ExpectLabels(*outcome, geometry, [&](auto i, auto j, auto k) {
    return stored[0].At(i, j, k) != 0 || stored[1].At(i, j, k) != 0;
  });
}

TEST_P(InputsRunTest, AnInputsOwnIntensityTakesThePlaceOfTheRecipes) {
  const auto geometry = AxialGeometry({16, 16, 16}, {1, 1, 1});
  std::vector<StoredVolume> stored{RandomVolume(geometry, 12), RandomVolume(geometry, 13),
                                   RandomVolume(geometry, 14)};
  v1::Recipe recipe = RecipeOfInputs(3);
  testing::SetAffine(recipe, 2, 1);
  recipe.mutable_inputs(1)->add_intensity()->mutable_affine()->set_scale(-1);
  recipe.mutable_inputs(1)->add_intensity()->mutable_affine()->set_scale(3);
  for (const bool before : {false, true}) {
    recipe.mutable_preparation()->set_intensity_before_spacing(before);
    const auto run = Create(recipe, geometry, SlicesOf(stored));
    ASSERT_TRUE(run.ok()) << run.status();
    const at::Tensor input = (*run)->Gather(0).value().cpu();
    EXPECT_EQ(input[0][0][3][5][7].item<float>(), 2 * stored[0].At(3, 5, 7) + 1);
    EXPECT_EQ(input[0][1][3][5][7].item<float>(), -3 * stored[1].At(3, 5, 7));
    EXPECT_EQ(input[0][2][3][5][7].item<float>(), 2 * stored[2].At(3, 5, 7) + 1);
  }
}

// MONAI's NormalizeIntensity with nonzero and channel_wise.
TEST_P(InputsRunTest, EachChannelHasItsOwnStatistics) {
  const auto geometry = AxialGeometry({3, 1, 1}, {1, 1, 1});
  std::vector<StoredVolume> stored{StoredVolume(geometry), StoredVolume(geometry)};
  stored[0].At(0, 0, 0) = 1;
  stored[0].At(1, 0, 0) = 3;
  stored[1].At(1, 0, 0) = 10;
  stored[1].At(2, 0, 0) = 30;
  v1::Recipe recipe = RecipeOfInputs(2);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, axis == 0 ? 3 : 1);
  recipe.mutable_preparation()->add_intensity()->mutable_z_score()->set_nonzero(true);
  const auto run = Create(recipe, geometry, SlicesOf(stored));
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_THAT(testing::Values((*run)->Gather(0).value()), ElementsAre(-1, 1, 0, 0, -1, 1));
}

// nnU-Net's use_mask_for_norm: where any channel is not 0, and the holes of that. Six voxels around a
// seventh, of which the first channel has five (value 7) and the second one (14): the region has all seven.
// First: mean 35 / 7, variance (5 * 2^2 + 2 * 5^2) / 7 = 10. Second: mean 14 / 7, variance (12^2 + 6 * 2^2) /
// 7 = 24.
TEST_P(InputsRunTest, OneRegionOfAllChannelsIsNormalised) {
  const auto geometry = AxialGeometry({7, 6, 5}, {1, 1, 1});
  std::vector<StoredVolume> stored{StoredVolume(geometry), StoredVolume(geometry)};
  for (const auto& [i, j, k] : {std::array{2, 2, 2}, {4, 2, 2}, {3, 1, 2}, {3, 3, 2}, {3, 2, 1}}) {
    stored[0].At(static_cast<std::size_t>(i), static_cast<std::size_t>(j), static_cast<std::size_t>(k)) = 7;
  }
  stored[1].At(3, 2, 3) = 14;
  v1::Recipe recipe = RecipeOfInputs(2);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 0);
  v1::ZScore& z_score = *recipe.mutable_preparation()->add_intensity()->mutable_z_score();
  z_score.set_nonzero(true);
  z_score.set_fill_holes(true);
  for (const auto& [crop, before] : {std::pair{true, true}, {true, false}, {false, true}, {false, false}}) {
    recipe.mutable_preparation()->clear_crop();
    if (crop) recipe.mutable_preparation()->mutable_crop();
    recipe.mutable_preparation()->set_intensity_before_spacing(before);
    const auto run = Create(recipe, geometry, SlicesOf(stored));
    ASSERT_TRUE(run.ok()) << run.status();
    const volume::Box& box = (*run)->plan().box;
    ASSERT_EQ(box, crop ? (volume::Box{{2, 1, 1}, {3, 3, 3}}) : volume::WholeBox(geometry));
    const at::Tensor input = (*run)->Gather(0).value().cpu();
    const auto at = [&](std::int64_t channel, std::int64_t x, std::int64_t y, std::int64_t z) {
      const auto& first = box.first_ijk;
      return input[0][channel][2 + x - first[0]][1 + y - first[1]][1 + z - first[2]].item<float>();
    };
    const float first = std::sqrt(10.0f);
    const float second = std::sqrt(24.0f);
    EXPECT_FLOAT_EQ(at(0, 0, 1, 1), 2 / first);
    EXPECT_FLOAT_EQ(at(0, 1, 1, 0), 2 / first);
    EXPECT_FLOAT_EQ(at(0, 1, 1, 1), -5 / first) << "a hole of the region";
    EXPECT_FLOAT_EQ(at(0, 1, 1, 2), -5 / first) << "what the other channel has";
    EXPECT_EQ(at(0, 0, 0, 0), 0) << "outside";
    EXPECT_FLOAT_EQ(at(1, 1, 1, 2), 12 / second);
    EXPECT_FLOAT_EQ(at(1, 1, 1, 1), -2 / second);
    EXPECT_FLOAT_EQ(at(1, 2, 1, 1), -2 / second);
    EXPECT_EQ(at(1, 2, 2, 2), 0);
  }
}

TEST_P(InputsRunTest, InterpolatedSlicesLieBetweenThoseOfTheirOwnVolume) {
  const auto geometry = AxialGeometry({4, 4, 3}, {1, 1, 1});
  std::vector<StoredVolume> stored{RandomVolume(geometry, 15), RandomVolume(geometry, 16)};
  std::vector<compute::StoredSlice> slices = SlicesOf(stored);
  slices[4] = {};
  slices[4].between = compute::Between{0, 2, 0.5};
  const auto run = Create(RecipeOfInputs(2), geometry, slices);
  ASSERT_TRUE(run.ok()) << run.status();
  // Windows of 16 begin 6, 6 and 6 voxels before the volume.
  EXPECT_EQ((*run)->Gather(0).value()[0][1][8][7][7].item<float>(),
            static_cast<float>(stored[1].At(2, 1, 0) + stored[1].At(2, 1, 2)) / 2);
}

TEST_P(InputsRunTest, TheLungIsTheFirstInputs) {
  const auto geometry = AxialGeometry({100, 100, 20}, {4, 4, 5}, {-200, -200, 0});
  StoredVolume chest(geometry);
  testing::PaintSphere(geometry, {0, 0, 0}, 1000, -1000, chest);
  for (const double z : {0.0, 20.0, 40.0, 60.0, 80.0, 95.0})
    testing::PaintSphere(geometry, {0, 0, z}, 120, 30, chest);
  testing::PaintSphere(geometry, {0, 0, 50}, 40, -800, chest);
  const StoredVolume water(geometry);
  v1::Recipe recipe = RecipeOfInputs(2);
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(1);
  const auto lung_ml = [&](const std::vector<StoredVolume>& stored) {
    const auto outcome = Run(recipe, geometry, SlicesOf(stored), Channel(0));
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() && outcome->result.lung ? outcome->result.lung->volume_ml() : -1;
  };
  EXPECT_NEAR(lung_ml({chest, water}), 4.0 / 3 * 3.14159 * 40 * 40 * 40 / 1000, 15);
  EXPECT_EQ(lung_ml({water, chest}), 0);
}

TEST_P(InputsRunTest, AVolumeTooFewIsRefused) {
  const auto geometry = AxialGeometry({4, 4, 3}, {1, 1, 1});
  const StoredVolume stored(geometry);
  const auto run = Create(RecipeOfInputs(2), geometry, stored.Slices());
  EXPECT_EQ(base::ReasonOf(run.status()), "SLICE_COUNT");
  EXPECT_EQ(base::ValueOf(run.status()), "3");
}

TS_INSTANTIATE_PLACES(InputsRunTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
