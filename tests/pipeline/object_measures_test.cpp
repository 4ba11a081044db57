// What findings measure beside their size: stored values, and distances to other labels.
#include <ATen/ops/cat.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::Outcome;
using testing::StoredVolume;

class ObjectMeasuresTest : public testing::PlacedRunTest {
 protected:
  // With the stored slices as values in Hounsfield units.
  absl::StatusOr<Outcome> Measured(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                   const std::vector<compute::StoredSlice>& slices, const Forward& forward,
                                   int threads = 1, std::size_t input = 0) {
    const std::size_t count = geometry.size_ijk()[2];
    return testing::RunAll(recipe, geometry, slices, forward, threads, 1, placement(), std::nullopt,
                           HounsfieldInput{input, std::span(slices).subspan(input * count, count)});
  }
};

TEST_P(ObjectMeasuresTest, MeansAreOfStoredValuesNotOfTheClippedInput) {
  const auto geometry = AxialGeometry({20, 18, 12}, {0.7, 0.7, 3});
  StoredVolume stored(geometry);
  for (std::size_t i = 5; i < 9; ++i) stored.At(i, 7, 4) = static_cast<std::int16_t>(100 * i);
  std::vector<compute::StoredSlice> slices = stored.Slices();
  for (compute::StoredSlice& slice : slices) slice.intercept = -200;  // 300, 400, 500, 600 HU
  v1::Recipe recipe = testing::SpotRecipe();
  v1::ScaleRange& range = *recipe.mutable_preparation()->add_intensity()->mutable_scale_range();
  range.set_from_min(0);
  range.set_from_max(100);
  range.set_to_max(1);
  range.set_clip(true);
  for (const int threads : {1, 3}) {
    const auto outcome = Measured(recipe, geometry, slices, testing::Identity, threads);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_EQ(outcome->result.findings.size(), 1u);
    const v1::Finding& finding = outcome->result.findings[0];
    EXPECT_EQ(finding.voxels(), 4u);
    EXPECT_EQ(finding.mean_hu().value(), 450);
    const double deviation = std::sqrt((150.0 * 150 + 50 * 50) / 2);
    EXPECT_NEAR(finding.standard_deviation_hu().value(), deviation, 1e-9);
    EXPECT_NEAR(finding.mean_hu().uncertainty(), deviation / 2, 1e-9);
    EXPECT_EQ(finding.mean_hu().method(), "mean of the stored values in its voxels");
  }
}

TEST_P(ObjectMeasuresTest, WithoutHounsfieldUnitsThereIsNoMean) {
  const auto geometry = AxialGeometry({20, 18, 12}, {1, 1, 1});
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {8, 8, 6}, 3, 1, stored);
  const auto outcome = Run(testing::SpotRecipe(), geometry, stored.Slices(), testing::Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  EXPECT_FALSE(outcome->result.findings[0].has_mean_hu());
  EXPECT_FALSE(outcome->result.findings[0].has_standard_deviation_hu());
}

TEST_P(ObjectMeasuresTest, OfSeveralInputsTheMethodNamesTheOne) {
  const auto geometry = AxialGeometry({16, 16, 8}, {1, 1, 1});
  std::vector<StoredVolume> volumes{StoredVolume(geometry), StoredVolume(geometry)};
  testing::PaintSphere(geometry, {8, 8, 4}, 2, 1, volumes[0]);
  testing::PaintSphere(geometry, {8, 8, 4}, 6, 70, volumes[1]);
  std::vector<compute::StoredSlice> slices = volumes[0].Slices();
  for (const compute::StoredSlice& slice : volumes[1].Slices()) slices.push_back(slice);
  v1::Recipe recipe = testing::SpotRecipe();
  recipe.add_inputs()->set_name("pet");
  recipe.add_inputs()->set_name("ct");
  recipe.mutable_network()->set_input_channels(2);
  const auto first = [](const at::Tensor& input) -> absl::StatusOr<Outputs> {
    return Outputs(input.narrow(1, 0, 1).clone());
  };
  const auto outcome = Measured(recipe, geometry, slices, first, 1, 1);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  EXPECT_EQ(outcome->result.findings[0].mean_hu().value(), 70);
  EXPECT_EQ(outcome->result.findings[0].mean_hu().method(),
            "mean of the stored values in its voxels of input ct");
}

// On the model grid of 2 mm, which begins at the first voxel (of a flipped axis at the last one), voxel n is
// the volume's voxel 2 n along i and j, and n along k.
TEST_P(ObjectMeasuresTest, OnTheModelGridEachVoxelHasTheNearestStoredValue) {
  const auto geometry = AxialGeometry({40, 40, 20}, {1, 1, 2});
  const StoredVolume stored = testing::RandomVolume(geometry, 5);
  for (const char* orientation : {"LPS", "RAS"}) {
    v1::Recipe recipe = testing::SpotRecipe();
    recipe.mutable_preparation()->set_orientation(orientation);
    testing::SetSpacing(recipe, {2, 2, 2}, v1::INTERPOLATION_LINEAR);
    recipe.mutable_findings(0)->set_on_model_grid(true);
    v1::Windows& windows = *recipe.mutable_windows();
    windows.Clear();
    windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
    for (int axis = 0; axis < 3; ++axis) windows.add_size(0);
    windows.set_blend(v1::BLEND_CONSTANT);
    // x 2 to 5, y 3 and 4, z 6 to 8.
    const auto block = [](const at::Tensor& input) -> absl::StatusOr<Outputs> {
      EXPECT_EQ(input.sizes(), (at::IntArrayRef{1, 1, 20, 20, 20}));
      at::Tensor output = at::zeros_like(input);
      output.narrow(2, 2, 4).narrow(3, 3, 2).narrow(4, 6, 3).fill_(1);
      return Outputs(output);
    };
    const auto outcome = Measured(recipe, geometry, stored.Slices(), block);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_EQ(outcome->result.findings.size(), 1u);
    const v1::Finding& finding = outcome->result.findings[0];
    ASSERT_EQ(finding.voxels(), 24u);
    const bool flipped = std::string(orientation) == "RAS";
    const auto place = [&](std::size_t n) { return flipped ? 39 - 2 * n : 2 * n; };
    StoredVolume values = stored;
    double sum = 0;
    for (std::size_t x = 2; x <= 5; ++x) {
      for (std::size_t y = 3; y <= 4; ++y) {
        for (std::size_t z = 6; z <= 8; ++z) sum += values.At(place(x), place(y), z);
      }
    }
    EXPECT_NEAR(finding.mean_hu().value(), sum / 24, 1e-9) << orientation;
  }
}

// Two labels of one channel each: what is 1 and what is 2 in the volume.
v1::Recipe TwoLabels() {
  v1::Recipe recipe = testing::SpotRecipe();
  recipe.mutable_network()->set_output_channels(2);
  v1::Label& wall = *recipe.add_labels();
  wall.set_value(2);
  wall.set_name("wall");
  recipe.mutable_findings(0)->add_distance_to(2);
  return recipe;
}

absl::StatusOr<Outputs> OnesAndTwos(const at::Tensor& input) {
  return Outputs(at::cat({input.eq(1), input.eq(2)}, 1).to(at::kFloat));
}

TEST_P(ObjectMeasuresTest, DistancesAreMillimetresBetweenVoxelSurfaces) {
  const auto geometry = AxialGeometry({30, 24, 12}, {0.5, 2, 5});
  StoredVolume stored(geometry);
  for (std::size_t j = 0; j < 24; ++j) stored.At(20, j, 6) = 2;  // the wall: a column, on slice 6
  stored.At(15, 10, 6) = 1;                                      // four voxels between: 2 mm
  stored.At(3, 4, 2) = 1;                                        // 16 and 3 between: 8 and 15 mm
  stored.At(19, 20, 6) = 1;                                      // touches
  const auto outcome = Run(TwoLabels(), geometry, stored.Slices(), OnesAndTwos);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 3u);
  std::map<double, double> by_place;  // along i, mm
  for (const v1::Finding& finding : outcome->result.findings) {
    ASSERT_EQ(finding.distances_size(), 1);
    EXPECT_EQ(finding.distances(0).to_label(), 2u);
    EXPECT_EQ(finding.distances(0).label(), "wall");
    EXPECT_EQ(finding.distances(0).mm().method(), "nearest voxel surfaces");
    EXPECT_NEAR(finding.distances(0).mm().uncertainty(), std::sqrt(0.25 + 4 + 25), 1e-12);
    by_place[finding.centre_lps().x_mm()] = finding.distances(0).mm().value();
  }
  EXPECT_EQ(by_place[7.5], 2);
  EXPECT_EQ(by_place[1.5], 17);
  EXPECT_EQ(by_place[9.5], 0);
}

TEST_P(ObjectMeasuresTest, ALabelWithoutVoxelsHasNoDistance) {
  const auto geometry = AxialGeometry({30, 24, 12}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(15, 10, 6) = 1;
  const auto outcome = Run(TwoLabels(), geometry, stored.Slices(), OnesAndTwos);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  EXPECT_EQ(outcome->result.findings[0].distances_size(), 0);
}

TS_INSTANTIATE_PLACES(ObjectMeasuresTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
