#include "engine/window_shape.h"

#include <gtest/gtest.h>

#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

using Shape = std::vector<std::int64_t>;

v1::Recipe Recipe(v1::TensorAxes axes, std::uint32_t dims, std::vector<std::uint32_t> size) {
  v1::Recipe recipe;
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
  for (const std::uint32_t n : size) recipe.mutable_windows()->add_size(n);
  recipe.mutable_network()->set_spatial_dims(dims);
  recipe.mutable_network()->set_axes(axes);
  recipe.mutable_network()->set_input_channels(2);
  recipe.mutable_network()->set_output_channels(3);
  return recipe;
}

v1::Recipe SlicesRecipe(v1::TensorAxes axes, std::uint32_t dims) {
  v1::Recipe recipe = Recipe(axes, dims, {});
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
  return recipe;
}

TEST(WindowShapeTest, FollowsTheNetworksAxes) {
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_XYZ, 3, {10, 20, 30})), (Shape{1, 2, 10, 20, 30}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_ZYX, 3, {10, 20, 30})), (Shape{1, 2, 30, 20, 10}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_XYZ, 2, {10, 20, 1})), (Shape{1, 2, 10, 20}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_ZYX, 2, {10, 20, 1})), (Shape{1, 2, 20, 10}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_ZXY, 3, {10, 20, 30})), (Shape{1, 2, 30, 10, 20}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_YZX, 3, {10, 20, 30})), (Shape{1, 2, 20, 30, 10}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_YXZ, 3, {10, 20, 30})), (Shape{1, 2, 20, 10, 30}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_XZY, 3, {10, 20, 30})), (Shape{1, 2, 10, 30, 20}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_ZXY, 2, {10, 20, 1})), (Shape{1, 2, 10, 20}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_YZX, 2, {10, 20, 1})), (Shape{1, 2, 20, 10}));
}

TEST(WindowShapeTest, SlicesAreWarmedUpAt512VoxelsOr400Millimetres) {
  v1::Recipe recipe = SlicesRecipe(v1::TENSOR_AXES_ZYX, 3);
  recipe.mutable_windows()->mutable_context()->set_before(4);
  recipe.mutable_windows()->mutable_context()->set_after(3);
  recipe.mutable_windows()->set_xy_multiple_of(4);
  EXPECT_EQ(*WindowShape(recipe), (Shape{1, 2, 8, 512, 512}));
  recipe.mutable_windows()->set_xy_multiple_of(48);
  EXPECT_EQ(*WindowShape(recipe), (Shape{1, 2, 8, 528, 528}));
  EXPECT_EQ(*WindowShape(SlicesRecipe(v1::TENSOR_AXES_ZYX, 2)), (Shape{1, 2, 512, 512}));
  for (const double mm : {2.0, 1.5, 2.0}) recipe.mutable_preparation()->mutable_spacing()->add_spacing_mm(mm);
  recipe.mutable_windows()->set_xy_multiple_of(8);
  EXPECT_EQ(*WindowShape(recipe), (Shape{1, 2, 8, 272, 200}));
  recipe.mutable_preparation()->mutable_spacing()->set_spacing_mm(0, 0.5);
  EXPECT_EQ(*WindowShape(recipe), (Shape{1, 2, 8, 272, 512}));
}

TEST(WindowShapeTest, WholeAxesAreWarmedUpSmall) {
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_XYZ, 3, {0, 0, 0})), (Shape{1, 2, 64, 64, 64}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_ZYX, 3, {0, 0, 48})), (Shape{1, 2, 48, 64, 64}));
  EXPECT_EQ(*WindowShape(Recipe(v1::TENSOR_AXES_XYZ, 2, {0, 256, 1})), (Shape{1, 2, 512, 256}));
}

TEST(WindowShapeTest, RefusesRecipesWithoutAShape) {
  const auto reason = [](const v1::Recipe& recipe) { return base::ValueOf(WindowShape(recipe).status()); };
  EXPECT_EQ(reason(Recipe(v1::TENSOR_AXES_XYZ, 3, {10, 20})), "windows.size");
  EXPECT_EQ(reason(Recipe(v1::TENSOR_AXES_XYZ, 3, {4'000'000'000u, 4'000'000'000u, 4'000'000'000u})),
            "windows.size");
  EXPECT_EQ(reason(Recipe(v1::TENSOR_AXES_XYZ, 1, {10, 20, 30})), "network.spatial_dims");
  EXPECT_EQ(reason(Recipe(v1::TENSOR_AXES_UNSPECIFIED, 3, {10, 20, 30})), "network.axes");
  v1::Recipe recipe = Recipe(v1::TENSOR_AXES_XYZ, 3, {10, 20, 30});
  recipe.mutable_network()->set_input_channels(0);
  EXPECT_EQ(reason(recipe), "network.input_channels");
}

TEST(WindowShapeTest, TheOutputHasTheRecipesChannelsAndTheWindowsSize) {
  const v1::Recipe recipe = Recipe(v1::TENSOR_AXES_XYZ, 3, {10, 20, 30});
  const Shape input{1, 2, 10, 20, 30};
  EXPECT_TRUE(OutputFits(recipe, input, Shape{1, 3, 10, 20, 30}));
  EXPECT_FALSE(OutputFits(recipe, input, Shape{1, 2, 10, 20, 30}));
  EXPECT_FALSE(OutputFits(recipe, input, Shape{2, 3, 10, 20, 30}));
  EXPECT_FALSE(OutputFits(recipe, input, Shape{1, 3, 10, 20, 1}));
  EXPECT_FALSE(OutputFits(recipe, input, Shape{1, 3, 10, 20}));
  const v1::Recipe slices = SlicesRecipe(v1::TENSOR_AXES_ZYX, 3);
  EXPECT_TRUE(OutputFits(slices, Shape{1, 2, 8, 64, 64}, Shape{1, 3, 1, 64, 64}));
  EXPECT_FALSE(OutputFits(slices, Shape{1, 2, 8, 64, 64}, Shape{1, 3, 8, 64, 64}));
  EXPECT_FALSE(OutputFits(slices, Shape{1, 2, 8, 64, 64}, Shape{1, 3, 4, 64, 64}));
  EXPECT_FALSE(OutputFits(slices, Shape{1, 2, 8, 64, 64}, Shape{1, 3, 8, 64, 1}));
  const v1::Recipe middle = SlicesRecipe(v1::TENSOR_AXES_YZX, 3);
  EXPECT_TRUE(OutputFits(middle, Shape{1, 2, 64, 8, 64}, Shape{1, 3, 64, 1, 64}));
  EXPECT_FALSE(OutputFits(middle, Shape{1, 2, 64, 8, 64}, Shape{1, 3, 1, 8, 64}));
}

}  // namespace
}  // namespace tomoserve::engine
