#include "tomoserve/pipeline/run_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

// A plan is made before anything is placed: no placements, except for what it says of them.

using ::testing::ElementsAre;
using testing::SpotRecipe;

TEST(RunPlanTest, ShapesFollowAxesAndDimensions) {
  const auto geometry = testing::AxialGeometry({100, 90, 30}, {1, 1, 2});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_windows()->set_size(0, 32);
  recipe.mutable_windows()->set_size(1, 24);
  recipe.mutable_network()->set_output_channels(1);
  auto plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 1, 32, 24, 16));
  EXPECT_THAT(plan->output_shape, ElementsAre(1, 1, 32, 24, 16));
  recipe.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX);
  recipe.mutable_network()->add_mirror_axes(0);
  recipe.mutable_network()->add_mirror_axes(2);
  plan = PlanRun(recipe, geometry);
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 1, 16, 24, 32));
  EXPECT_THAT(plan->mirror_dimensions, ElementsAre(4, 2));
  recipe.mutable_network()->clear_mirror_axes();
  recipe.mutable_windows()->Clear();
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  recipe.mutable_windows()->set_xy_multiple_of(16);
  recipe.mutable_windows()->mutable_context()->set_before(4);
  recipe.mutable_windows()->mutable_context()->set_after(3);
  plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 1, 8, 96, 112));
  EXPECT_THAT(plan->output_shape, ElementsAre(1, 1, 1, 96, 112));
  recipe.mutable_network()->set_spatial_dims(2);
  recipe.mutable_network()->set_input_channels(8);
  recipe.mutable_network()->add_mirror_axes(0);
  plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 8, 96, 112));
  EXPECT_THAT(plan->output_shape, ElementsAre(1, 1, 96, 112));
  EXPECT_THAT(plan->mirror_dimensions, ElementsAre(3));
}

TEST(RunPlanTest, EveryOrderOfAxesHasItsShapesAndMirrors) {
  const auto geometry = testing::AxialGeometry({100, 90, 30}, {1, 1, 2});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_windows()->set_size(0, 32);
  recipe.mutable_windows()->set_size(1, 24);
  recipe.mutable_network()->add_mirror_axes(0);
  recipe.mutable_network()->add_mirror_axes(1);
  const auto expect = [&](v1::TensorAxes axes, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& mirrors) {
    recipe.mutable_network()->set_axes(axes);
    const auto plan = PlanRun(recipe, geometry);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->input_shape, shape);
    EXPECT_EQ(plan->output_shape, shape);
    EXPECT_EQ(plan->mirror_dimensions, mirrors);
  };
  expect(v1::TENSOR_AXES_XYZ, {1, 1, 32, 24, 16}, {2, 3});
  expect(v1::TENSOR_AXES_ZYX, {1, 1, 16, 24, 32}, {4, 3});
  expect(v1::TENSOR_AXES_ZXY, {1, 1, 16, 32, 24}, {3, 4});
  expect(v1::TENSOR_AXES_YZX, {1, 1, 24, 16, 32}, {4, 2});
  expect(v1::TENSOR_AXES_YXZ, {1, 1, 24, 32, 16}, {3, 2});
  expect(v1::TENSOR_AXES_XZY, {1, 1, 32, 16, 24}, {2, 4});
  // Two dimensions: without z.
  recipe.mutable_windows()->set_size(2, 1);
  recipe.mutable_network()->set_spatial_dims(2);
  expect(v1::TENSOR_AXES_XYZ, {1, 1, 32, 24}, {2, 3});
  expect(v1::TENSOR_AXES_ZYX, {1, 1, 24, 32}, {3, 2});
  expect(v1::TENSOR_AXES_ZXY, {1, 1, 32, 24}, {2, 3});
  expect(v1::TENSOR_AXES_YZX, {1, 1, 24, 32}, {3, 2});
  expect(v1::TENSOR_AXES_YXZ, {1, 1, 24, 32}, {3, 2});
  expect(v1::TENSOR_AXES_XZY, {1, 1, 32, 24}, {2, 3});
}

TEST(RunPlanTest, AWindowOfSizeZeroIsTheWholeAxis) {
  const auto geometry = testing::AxialGeometry({100, 90, 30}, {1, 1, 2});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_windows()->set_size(1, 0);
  auto plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 1, 16, 90, 16));
  for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 0);
  plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->windows.starts, ElementsAre(compute::Xyz{0, 0, 0}));
  EXPECT_THAT(plan->output_shape, ElementsAre(1, 1, 100, 90, 30));
  // The answer, and what it answers to twice, live beside the prepared volume and the sums.
  EXPECT_EQ(plan->peak_bytes, geometry.voxels() * (2 + 3) * 4);
  // 2^27 voxels are the most that a network sees at once.
  EXPECT_TRUE(PlanRun(recipe, testing::AxialGeometry({512, 512, 512}, {1, 1, 1})).ok());
  const auto large = PlanRun(recipe, testing::AxialGeometry({512, 512, 513}, {1, 1, 1}));
  EXPECT_EQ(base::ReasonOf(large.status()), "WINDOW_TOO_LARGE");
  EXPECT_EQ(base::ValueOf(large.status()), std::to_string(512 * 512 * 513));
}

TEST(RunPlanTest, PeakBytesCountVolumeAndSums) {
  const auto geometry = testing::AxialGeometry({100, 100, 100}, {1, 1, 1});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_network()->set_output_channels(25);
  recipe.clear_decode();
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  const compute::Placement whole_sums{.whole_sums = true};
  EXPECT_EQ(PlanRun(recipe, geometry, whole_sums)->peak_bytes, 1'000'000u * 26 * 4);
  EXPECT_LT(PlanRun(recipe, geometry)->peak_bytes, 1'000'000u * 26 * 4) << "labels are made in pieces";
}

TEST(RunPlanTest, EveryInputIsAChannelAndCounted) {
  const auto geometry = testing::AxialGeometry({100, 100, 100}, {1, 1, 1});
  v1::Recipe recipe = SpotRecipe();
  const auto one = PlanRun(recipe, geometry);
  for (int n = 0; n < 4; ++n) recipe.add_inputs();
  recipe.mutable_network()->set_input_channels(4);
  const auto plan = PlanRun(recipe, geometry);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->input_shape, ElementsAre(1, 4, 16, 16, 16));
  EXPECT_THAT(plan->output_shape, ElementsAre(1, 1, 16, 16, 16));
  const std::uint64_t of_three = 3 * geometry.voxels() * 4;
  EXPECT_GE(plan->peak_bytes, one->peak_bytes + of_three);
  EXPECT_GE(plan->device_peak_bytes, one->device_peak_bytes + of_three);
  // To crop all inputs alike they are all read first.
  recipe.mutable_preparation()->mutable_crop();
  EXPECT_GE(PlanRun(recipe, geometry)->peak_bytes, (4 + 4) * geometry.voxels() * 4);
}

TEST(RunPlanTest, ARegionThatLabelsAreKeptInIsCounted) {
  const auto geometry = testing::AxialGeometry({100, 100, 100}, {1, 1, 1});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_region()->set_model("lungs");
  const compute::Placement cuda{c10::Device(c10::kCUDA, 0), false};
  const std::uint64_t without = PlanRun(recipe, geometry)->peak_bytes;
  const std::uint64_t without_beside = PlanRun(recipe, geometry, cuda)->peak_bytes;
  recipe.add_decode()->mutable_keep_in_region();
  EXPECT_EQ(PlanRun(recipe, geometry)->peak_bytes, without + geometry.voxels());
  EXPECT_EQ(PlanRun(recipe, geometry, cuda)->peak_bytes, without_beside + geometry.voxels());
}

TEST(RunPlanTest, ADevicesArraysAreCountedApart) {
  const auto geometry = testing::AxialGeometry({512, 512, 300}, {1, 1, 1});
  v1::Recipe recipe = SpotRecipe();
  recipe.mutable_network()->set_output_channels(25);
  recipe.clear_decode();
  recipe.add_decode()->mutable_arg_max();
  recipe.add_decode()->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  const auto loops = PlanRun(recipe, geometry);
  const auto cuda = PlanRun(recipe, geometry, {c10::Device(c10::kCUDA, 0), false});
  const auto tensors = PlanRun(recipe, geometry, {c10::kCPU, false});
  // Sums and weights, labels of both grids; half a gigabyte of work beside them.
  const std::uint64_t arrays = geometry.voxels() * (26 * 4 + 2 * 2);
  EXPECT_GE(cuda->device_peak_bytes, arrays);
  EXPECT_LE(cuda->device_peak_bytes, arrays + (std::uint64_t{512} << 20));
  EXPECT_EQ(loops->device_peak_bytes, cuda->device_peak_bytes);
  // On the host only staging and samples stay.
  EXPECT_LE(cuda->peak_bytes, std::uint64_t{256} << 20);
  EXPECT_EQ(tensors->peak_bytes, cuda->peak_bytes + cuda->device_peak_bytes);
}

// A change to a good recipe, the reason and the field that it must lead to.
struct Refusal {
  const char* name;
  void (*change)(v1::Recipe&);
  const char* reason;
  const char* field;
};

class RunPlanRefusals : public ::testing::TestWithParam<Refusal> {};

TEST_P(RunPlanRefusals, NameTheField) {
  v1::Recipe recipe = SpotRecipe();
  GetParam().change(recipe);
  const auto plan = PlanRun(recipe, testing::AxialGeometry({32, 32, 32}, {1, 1, 1}));
  EXPECT_EQ(base::ReasonOf(plan.status()), GetParam().reason);
  EXPECT_EQ(base::ValueOf(plan.status()), GetParam().field);
}

INSTANTIATE_TEST_SUITE_P(
    Recipes, RunPlanRefusals,
    ::testing::Values(
        Refusal{"Orientation", [](v1::Recipe& r) { r.mutable_preparation()->set_orientation("RAR"); },
                "ORIENTATION_INVALID", "RAR"},
        Refusal{"SpacingRule",
                [](v1::Recipe& r) {
                  testing::SetSpacing(r, {1, 1, 1}, v1::INTERPOLATION_LINEAR);
                  r.mutable_preparation()->mutable_spacing()->clear_rule();
                },
                "RECIPE_INVALID", "preparation.spacing.rule"},
        Refusal{"Cubic",
                [](v1::Recipe& r) {
                  testing::SetSpacing(r, {1, 1, 1}, v1::INTERPOLATION_CUBIC);
                },
                "RECIPE_UNSUPPORTED", "preparation.spacing.interpolation"},
        Refusal{"TinySpacing",
                [](v1::Recipe& r) {
                  testing::SetSpacing(r, {1e-300, 1, 1}, v1::INTERPOLATION_LINEAR);
                },
                "GEOMETRY_INVALID", "size_ijk"},
        Refusal{"FineSpacing",
                [](v1::Recipe& r) {
                  testing::SetSpacing(r, {1e-5, 50, 50}, v1::INTERPOLATION_LINEAR);
                },
                "GEOMETRY_INVALID", "size_ijk"},
        Refusal{"Layout", [](v1::Recipe& r) { r.mutable_windows()->clear_layout(); }, "RECIPE_INVALID",
                "windows.layout"},
        Refusal{"Size", [](v1::Recipe& r) { r.mutable_windows()->clear_size(); }, "RECIPE_INVALID",
                "windows.size"},
        Refusal{"Overlap", [](v1::Recipe& r) { r.mutable_windows()->set_overlap(1); }, "WINDOW_INVALID",
                "overlap"},
        Refusal{"SigmaWhoseSquareIsZero",
                [](v1::Recipe& r) {
                  r.mutable_windows()->set_blend(v1::BLEND_GAUSSIAN);
                  r.mutable_windows()->set_sigma_scale(1e-200);
                },
                "RECIPE_INVALID", "windows.sigma_scale"},
        Refusal{"Inputs",
                [](v1::Recipe& r) {
                  r.add_inputs();
                  r.add_inputs();
                },
                "RECIPE_INVALID", "network.input_channels"},
        Refusal{"Channels", [](v1::Recipe& r) { r.mutable_network()->set_input_channels(2); },
                "RECIPE_INVALID", "network.input_channels"},
        Refusal{"InputsWithContext",
                [](v1::Recipe& r) {
                  r.add_inputs();
                  r.add_inputs();
                  r.mutable_windows()->Clear();
                  r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
                  r.mutable_windows()->mutable_context()->set_before(1);
                  r.mutable_network()->set_spatial_dims(2);
                  r.mutable_network()->set_input_channels(4);
                },
                "RECIPE_INVALID", "windows.context"},
        Refusal{"CropToNoRegion",
                [](v1::Recipe& r) { r.mutable_preparation()->mutable_crop()->set_to_region(true); },
                "RECIPE_INVALID", "preparation.crop.to_region"},
        Refusal{"KeepInNoRegion", [](v1::Recipe& r) { r.add_decode()->mutable_keep_in_region(); },
                "RECIPE_INVALID", "decode[2]"},
        Refusal{"KeepOnTheModelGrid",
                [](v1::Recipe& r) {
                  r.mutable_region()->set_model("lungs");
                  r.add_decode()->mutable_keep_in_region();
                  r.mutable_decode()->SwapElements(1, 2);
                },
                "RECIPE_INVALID", "decode[1]"},
        Refusal{"Axes", [](v1::Recipe& r) { r.mutable_network()->clear_axes(); }, "RECIPE_INVALID",
                "network.axes"},
        Refusal{"Dimensions", [](v1::Recipe& r) { r.mutable_network()->set_spatial_dims(4); },
                "RECIPE_INVALID", "network.spatial_dims"},
        Refusal{"FlatNetwork", [](v1::Recipe& r) { r.mutable_network()->set_spatial_dims(2); },
                "RECIPE_INVALID", "windows.size"},
        Refusal{"Mirror", [](v1::Recipe& r) { r.mutable_network()->add_mirror_axes(3); }, "RECIPE_INVALID",
                "network.mirror_axes"},
        Refusal{"NoLabels", [](v1::Recipe& r) { r.mutable_decode()->DeleteSubrange(0, 1); }, "RECIPE_INVALID",
                "decode[1]"},
        Refusal{"NotBack", [](v1::Recipe& r) { r.mutable_decode()->RemoveLast(); }, "RECIPE_INVALID",
                "decode[1]"},
        Refusal{"ActivatedLabels",
                [](v1::Recipe& r) { r.add_decode()->set_activation(v1::ACTIVATION_SIGMOID); },
                "RECIPE_INVALID", "decode[2]"},
        Refusal{"TwiceLabels", [](v1::Recipe& r) { r.add_decode()->mutable_arg_max(); }, "RECIPE_INVALID",
                "decode[2]"},
        Refusal{"Boxes", [](v1::Recipe& r) { r.add_decode()->mutable_detect_boxes(); }, "RECIPE_INVALID",
                "decode[2]"},
        Refusal{"FillScores", [](v1::Recipe& r) { r.mutable_decode(0)->mutable_fill_holes()->set_label(1); },
                "RECIPE_INVALID", "decode[0]"},
        Refusal{"MergeNothing", [](v1::Recipe& r) { r.add_decode()->mutable_merge_labels()->set_into(1); },
                "RECIPE_INVALID", "decode[2]"},
        Refusal{"MergeIntoItself",
                [](v1::Recipe& r) {
                  r.add_decode()->mutable_merge_labels()->set_into(1);
                  r.mutable_decode(2)->mutable_merge_labels()->add_from(1);
                },
                "RECIPE_INVALID", "decode[2]"},
        Refusal{"EmptyStep", [](v1::Recipe& r) { r.add_decode(); }, "RECIPE_INVALID", "decode[2]"},
        Refusal{"KeepNone", [](v1::Recipe& r) { r.add_decode()->mutable_keep_largest(); }, "RECIPE_INVALID",
                "decode[2]"},
        Refusal{"PaintOrder",
                [](v1::Recipe& r) { r.mutable_decode(0)->mutable_threshold()->add_paint_order(1); },
                "RECIPE_INVALID", "decode[0]"},
        Refusal{"LabelsMissing", [](v1::Recipe& r) { r.clear_labels(); }, "RECIPE_INVALID", "decode[0]"}),
    [](const ::testing::TestParamInfo<Refusal>& refusal) { return refusal.param.name; });

}  // namespace
}  // namespace tomoserve::pipeline
