// What a run says beside its findings: labels, lung, borders, times.
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"
#include "tomoserve/pipeline/prepared_run.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using ::testing::ElementsAre;
using testing::SpotRecipe;
using testing::StoredVolume;

class PreparedRunReportTest : public testing::PlacedRunTest {};

TEST_P(PreparedRunReportTest, ReportsLabelsLungAndTimings) {
  const auto geometry = AxialGeometry({180, 170, 20}, {2, 2, 5}, {-180, -170, 0});
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {0, 0, 0}, 1000, -1000, stored);
  for (const double z : {0.0, 20.0, 40.0, 60.0, 80.0, 95.0})
    testing::PaintSphere(geometry, {0, 0, z}, 120, 30, stored);
  testing::PaintSphere(geometry, {0, 0, 50}, 48, -800, stored);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(1000);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 200);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(0);
  recipe.add_labels()->set_value(2);
  recipe.mutable_network()->set_output_channels(2);
  const auto outcome =
      Run(recipe, geometry, stored.Slices(), [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
        return at::cat({input, at::full(input.sizes(), -1, input.options())}, 1);
      });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_TRUE(outcome->result.lung.has_value());
  EXPECT_NEAR(outcome->result.lung->volume_ml(), 4.0 / 3 * 3.14159 * 48 * 48 * 48 / 1000, 15);
  EXPECT_EQ(outcome->result.lung->first_k(), 1u);
  EXPECT_EQ(outcome->result.lung->last_k(), 19u);
  ASSERT_EQ(outcome->result.labels.size(), 2u);
  EXPECT_EQ(outcome->result.labels[0].label(), 1u);
  EXPECT_GT(outcome->result.labels[0].voxels(), 0u);
  EXPECT_EQ(outcome->result.labels[0].first_k(), 0u);
  EXPECT_EQ(outcome->result.labels[0].last_k(), 19u);
  EXPECT_FALSE(outcome->result.labels[0].touches_in_plane_border());
  EXPECT_EQ(outcome->result.labels[1].label(), 2u);
  EXPECT_EQ(outcome->result.labels[1].voxels(), 0u);
  std::vector<std::string> stages;
  for (const v1::StageTiming& timing : outcome->result.timings) stages.push_back(timing.stage());
  EXPECT_THAT(stages, ElementsAre("prepare", "forward", "blend", "labels", "measure"));
}

TEST_P(PreparedRunReportTest, SaysWhetherALabelReachesTheBorderOfTheImages) {
  const auto geometry = AxialGeometry({12, 10, 8}, {1, 1, 1});
  const auto touches = [&](std::size_t i, std::size_t j, std::size_t k) {
    StoredVolume stored(geometry);
    stored.At(i, j, k) = 1;
    const auto outcome = Run(SpotRecipe(), geometry, stored.Slices(),
                             [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> { return input; });
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    EXPECT_EQ(outcome->result.labels.at(0).voxels(), 1u);
    return outcome->result.labels.at(0).touches_in_plane_border();
  };
  EXPECT_FALSE(touches(1, 1, 4));
  EXPECT_FALSE(touches(10, 8, 0));  // the end slices are no border of an image
  EXPECT_FALSE(touches(10, 8, 7));
  EXPECT_TRUE(touches(0, 5, 4));
  EXPECT_TRUE(touches(11, 5, 4));
  EXPECT_TRUE(touches(5, 0, 4));
  EXPECT_TRUE(touches(5, 9, 4));
}

TEST_P(PreparedRunReportTest, SaysWhereTheMiddleOfALabelIs) {
  const auto geometry = volume::Geometry::Create({12, 10, 8}, {1, 2, 3}, volume::LpsPoint{{-50, 20, 7}},
                                                 {volume::LpsVector{-1, 0, 0}, {0, 1, 0}, {0, 0, 1}});
  ASSERT_TRUE(geometry.ok());
  StoredVolume stored(*geometry);
  // Two pieces: three voxels in a row, and one.
  for (const std::size_t i : {2, 3, 4}) stored.At(i, 1, 1) = 1;
  stored.At(9, 7, 6) = 1;
  v1::Recipe recipe = SpotRecipe();
  recipe.add_labels()->set_value(2);  // nowhere
  recipe.mutable_network()->set_output_channels(2);
  const auto outcome =
      Run(recipe, *geometry, stored.Slices(), [](const at::Tensor& input) -> absl::StatusOr<at::Tensor> {
        return at::cat({input, at::full(input.sizes(), -1, input.options())}, 1);
      });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const ipc::v1::LabelExtent& extent = outcome->result.labels.at(0);
  ASSERT_EQ(extent.voxels(), 4u);
  // i (2 + 3 + 4 + 9) / 4, j (3 * 1 + 7) / 4, k (3 * 1 + 6) / 4; i runs to the right.
  EXPECT_THAT(extent.center_lps(), ElementsAre(-50 - 4.5, 20 + 2 * 2.5, 7 + 3 * 2.25));
  EXPECT_THAT(outcome->result.labels.at(1).center_lps(), ::testing::IsEmpty());
}

// A corrected grid is larger than each image: its border is no edge of what was seen.
TEST_P(PreparedRunReportTest, TheBorderIsThatOfTheStoredImage) {
  const auto geometry = AxialGeometry({12, 14, 8}, {1, 1, 1});
  const auto touches = [&](std::size_t i, std::size_t j, std::size_t k) {
    StoredVolume stored(AxialGeometry({12, 10, 8}, {1, 1, 1}));
    stored.At(i, j, k) = 2;
    std::vector<compute::StoredSlice> slices = stored.Slices();
    for (std::size_t n = 0; n < slices.size(); ++n)
      slices[n].shift = compute::Shift{{0, 0.5 * static_cast<double>(n)}, {12, 10}, 0};
    const auto outcome = Run(SpotRecipe(), geometry, slices, testing::Identity);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    const bool border = outcome->result.labels.at(0).touches_in_plane_border();
    EXPECT_EQ(outcome->result.findings.size(), 1u);
    EXPECT_EQ(outcome->result.findings.at(0).limitations_size(), border ? 1 : 0);
    return border;
  };
  EXPECT_TRUE(touches(5, 0, 4));
  EXPECT_FALSE(touches(5, 1, 4));
  EXPECT_FALSE(touches(5, 8, 4));
  EXPECT_TRUE(touches(5, 9, 4));
  EXPECT_TRUE(touches(0, 5, 4));
  EXPECT_TRUE(touches(11, 5, 4));
  // Shifted by half a pixel: a voxel goes into two rows.
  EXPECT_TRUE(touches(5, 0, 3));
  EXPECT_FALSE(touches(5, 2, 3));
  EXPECT_FALSE(touches(5, 7, 3));
  EXPECT_TRUE(touches(5, 9, 3));
}

TEST_P(PreparedRunReportTest, NamesFindingsThatLieOnAnInterpolatedSlice) {
  const auto geometry = AxialGeometry({12, 10, 8}, {1, 1, 1});
  StoredVolume stored(geometry);
  stored.At(5, 5, 2) = stored.At(5, 5, 4) = 3;  // and between them
  stored.At(9, 8, 4) = 4;
  stored.At(2, 2, 5) = stored.At(2, 2, 6) = 2;
  std::vector<compute::StoredSlice> slices = stored.Slices();
  slices[3] = {};
  slices[3].between = compute::Between{2, 4, 0.5};
  v1::Recipe recipe = SpotRecipe();
  const auto outcome = Run(recipe, geometry, slices, testing::Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const std::vector<v1::Finding>& findings = outcome->result.findings;
  ASSERT_EQ(findings.size(), 3u);
  EXPECT_EQ(findings[0].voxels(), 2u);
  EXPECT_THAT(findings[0].limitations(), ElementsAre("SYNTHETIC_SLICE"));
  EXPECT_EQ(findings[1].voxels(), 3u);
  EXPECT_THAT(findings[1].limitations(), ElementsAre("SYNTHETIC_SLICE"));
  EXPECT_EQ(findings[2].voxels(), 2u);
  EXPECT_THAT(findings[2].limitations(), ElementsAre());
}

TEST_P(PreparedRunReportTest, SaysThatTheImagesCutALungOff) {
  const auto geometry = AxialGeometry({120, 170, 20}, {2, 2, 5}, {-180, -170, 0});  // up to x = 60
  StoredVolume stored(geometry);
  testing::PaintSphere(geometry, {0, 0, 0}, 1000, -1000, stored);
  for (const double z : {0.0, 20.0, 40.0, 60.0, 80.0, 95.0})
    testing::PaintSphere(geometry, {0, 0, z}, 130, 30, stored);
  for (const double x : {-60.0, 60.0}) testing::PaintSphere(geometry, {x, 0, 50}, 44, -800, stored);
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(200);
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 200);
  const auto expect_cut = [&](const volume::Geometry& grid, const std::vector<compute::StoredSlice>& slices) {
    const auto outcome = Run(recipe, grid, slices, testing::Identity);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_TRUE(outcome->result.lung.has_value());
    EXPECT_GT(outcome->result.lung->volume_ml(), 200);
    EXPECT_TRUE(outcome->result.lung->touches_in_plane_border());
  };
  std::vector<compute::StoredSlice> slices = stored.Slices();
  expect_cut(geometry, slices);
  for (std::size_t k = 0; k < slices.size(); ++k)
    slices[k].shift = compute::Shift{{0.5 * static_cast<double>(k), 0}, {120, 170}, -1024};
  expect_cut(AxialGeometry({130, 170, 20}, {2, 2, 5}, {-180, -170, 0}), slices);
}

TS_INSTANTIATE_PLACES(PreparedRunReportTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
