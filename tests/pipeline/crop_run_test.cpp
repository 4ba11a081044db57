// Runs whose recipe crops the volume, and nnU-Net's rules on small volumes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::Identity;
using testing::SpotRecipe;
using testing::StoredVolume;

// Windows of 8 voxels, arg-max or threshold left as SpotRecipe has it.
v1::Recipe CroppingRecipe(double above, std::uint32_t margin) {
  v1::Recipe recipe = SpotRecipe();
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 8);
  recipe.mutable_preparation()->mutable_crop()->set_background(-1000);
  recipe.mutable_preparation()->mutable_crop()->set_margin_voxels(margin);
  recipe.mutable_decode(0)->mutable_threshold()->set_above(above);
  return recipe;
}

// Air with a block of values 1 to 7 * 6 * 5 at (9, 4, 3).
StoredVolume BlockInAir(const volume::Geometry& geometry) {
  StoredVolume stored(geometry);
  for (std::uint32_t k = 0; k < geometry.size_ijk()[2]; ++k) {
    for (std::uint32_t j = 0; j < geometry.size_ijk()[1]; ++j) {
      for (std::uint32_t i = 0; i < geometry.size_ijk()[0]; ++i) stored.At(i, j, k) = -1000;
    }
  }
  std::int16_t value = 0;
  for (std::uint32_t k = 3; k < 8; ++k) {
    for (std::uint32_t j = 4; j < 10; ++j) {
      for (std::uint32_t i = 9; i < 16; ++i) stored.At(i, j, k) = ++value;
    }
  }
  return stored;
}

class CropRunTest : public testing::PlacedRunTest {};

TEST_P(CropRunTest, OnlyTheBoxIsAnalysedAndItsLabelsAreInPlace) {
  const auto geometry = AxialGeometry({40, 30, 20}, {1, 1, 2}, {-5, 7, 100});
  StoredVolume stored = BlockInAir(geometry);
  // Oriented so that no axis of the model is one of the volume's in the same direction.
  v1::Recipe recipe = CroppingRecipe(100.5, 1);
  recipe.mutable_preparation()->set_orientation("IAR");
  const auto before = PlanRun(recipe, geometry, placement());
  ASSERT_TRUE(before.ok()) << before.status();
  const auto run = Create(recipe, geometry, stored.Slices());
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ((*run)->plan().box, (volume::Box{{8, 3, 2}, {9, 8, 7}}));
  EXPECT_EQ((*run)->windows(), 2u);
  EXPECT_LT((*run)->windows(), before->windows.starts.size());
  EXPECT_LE((*run)->plan().peak_bytes, before->peak_bytes);
  EXPECT_LE((*run)->plan().device_peak_bytes, before->device_peak_bytes);

  const auto outcome = Run(recipe, geometry, stored.Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::size_t v = 0;
  for (std::uint32_t k = 0; k < 20; ++k) {
    for (std::uint32_t j = 0; j < 30; ++j) {
      for (std::uint32_t i = 0; i < 40; ++i)
        ASSERT_EQ(outcome->labels[v++], stored.At(i, j, k) > 100 ? 1 : 0);
    }
  }
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  const v1::Finding& finding = outcome->result.findings[0];
  EXPECT_NEAR(finding.score(), 210, 1e-3) << "read at its place in the box";
  EXPECT_EQ(finding.voxels(), 110u);
  EXPECT_EQ(finding.key_slice_k(), 6u);
  EXPECT_EQ(finding.limitations_size(), 0) << "it touches the box, not the volume";
}

TEST_P(CropRunTest, WhereNothingDiffersTheWholeVolumeIsAnalysed) {
  const auto geometry = AxialGeometry({10, 9, 8}, {1, 1, 1});
  v1::Recipe recipe = CroppingRecipe(-0.5, 0);
  recipe.mutable_preparation()->mutable_crop()->set_background(0);
  const auto outcome = Run(recipe, geometry, StoredVolume(geometry).Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  for (const std::uint16_t label : outcome->labels) ASSERT_EQ(label, 1);
}

TEST_P(CropRunTest, LabelsOfTheResampledBoxHaveItsPlace) {
  const auto geometry = AxialGeometry({40, 30, 20}, {1, 1, 1});
  StoredVolume stored = BlockInAir(geometry);
  for (std::uint32_t k = 3; k < 8; ++k) {
    for (std::uint32_t j = 4; j < 10; ++j) {
      for (std::uint32_t i = 9; i < 16; ++i) stored.At(i, j, k) = 200;
    }
  }
  v1::Recipe recipe = CroppingRecipe(100, 0);
  testing::SetSpacing(recipe, {0.5, 2, 1}, v1::INTERPOLATION_CUBIC);
  recipe.mutable_preparation()->mutable_spacing()->set_rule(v1::SPACING_RULE_NNUNET);
  recipe.mutable_decode()->SwapElements(0, 1);
  recipe.mutable_decode(0)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
  const auto outcome = Run(recipe, geometry, stored.Slices(), Identity);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  std::size_t v = 0;
  for (std::uint32_t k = 0; k < 20; ++k) {
    for (std::uint32_t j = 0; j < 30; ++j) {
      for (std::uint32_t i = 0; i < 40; ++i) {
        ASSERT_EQ(outcome->labels[v++], stored.At(i, j, k) == 200 ? 1 : 0) << i << ' ' << j << ' ' << k;
      }
    }
  }
}

TEST_P(CropRunTest, SumsThatFloat16CannotHoldAreAnError) {
  const auto geometry = AxialGeometry({12, 8, 8}, {1, 1, 1});
  v1::Recipe recipe = CroppingRecipe(0.5, 0);
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
  recipe.mutable_windows()->set_overlap(0.5);
  const auto outcome =
      Run(recipe, geometry, testing::RandomVolume(geometry, 1).Slices(),
          [](const at::Tensor& input) -> absl::StatusOr<Outputs> { return at::Tensor(input.mul(1000)); });
  EXPECT_EQ(base::ReasonOf(outcome.status()), "NOT_FINITE");
  EXPECT_EQ(base::ValueOf(outcome.status()), "sums");
}

TS_INSTANTIATE_PLACES(CropRunTest, testing::AllPlaces());

TEST(NnunetPlanTest, TheLowResolutionAxisIsChosenThereAndBackByTheRecipesSpacing) {
  const auto geometry = AxialGeometry({100, 100, 20}, {1, 1, 5});
  v1::Recipe recipe = SpotRecipe();
  testing::SetSpacing(recipe, {2, 2, 4}, v1::INTERPOLATION_CUBIC);
  v1::Spacing& spacing = *recipe.mutable_preparation()->mutable_spacing();
  spacing.set_rule(v1::SPACING_RULE_NNUNET);
  auto plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->grid.geometry.size_ijk(), (std::array<std::uint32_t, 3>{50, 50, 25}));
  EXPECT_EQ(plan->grid.nearest_to_model, 2u);
  EXPECT_EQ(plan->grid.nearest_to_volume, 2u);
  // The axes are the recipe's.
  recipe.mutable_preparation()->set_orientation("SRA");
  spacing.set_spacing_mm(0, 4);
  spacing.set_spacing_mm(2, 2);
  plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->grid.nearest_to_model, 0u);
  spacing.set_low_resolution_axis(v1::LOW_RESOLUTION_AXIS_TOGETHER);
  plan = PlanRun(recipe, geometry);
  EXPECT_EQ(plan->grid.nearest_to_model, std::nullopt);
  EXPECT_EQ(plan->grid.nearest_to_volume, std::nullopt);
}

}  // namespace
}  // namespace tomoserve::pipeline
