// The recipes that the project ships, and MONAI bundles written as recipes.
#include <gtest/gtest.h>

#include <filesystem>

#include "models/recipes.h"

namespace tomoserve::models {
namespace {

namespace fs = std::filesystem;

v1::Recipe MustParse(const fs::path& path) {
  const auto recipe = ParseRecipe(ReadText(path));
  EXPECT_TRUE(recipe.ok()) << path << ": " << recipe.status();
  return recipe.ok() ? *recipe : v1::Recipe();
}

TEST(ShippedRecipesTest, AllAreValid) {
  int recipes = 0;
  for (const char* folder : {"models", "script/recipes"}) {
    for (const auto& entry : fs::recursive_directory_iterator(SourceFolder() / folder)) {
      if (entry.path().filename() != "recipe.textproto") continue;
      MustParse(entry.path());
      EXPECT_TRUE(fs::exists(entry.path().parent_path() / "card.md")) << entry.path();
      ++recipes;
    }
  }
  EXPECT_GE(recipes, 3);
}

TEST(ShippedRecipesTest, NoduleBlobIsADemonstration) {
  const v1::Recipe recipe = MustParse(SourceFolder() / "models/nodule_blob/1/recipe.textproto");
  EXPECT_EQ(recipe.card().regulatory_status(), v1::REGULATORY_STATUS_DEMONSTRATION);
  EXPECT_TRUE(recipe.coverage().has_lung_inside());
  EXPECT_EQ(recipe.labels(0).type().value(), "27925004");
}

TEST(ShippedRecipesTest, Lung2dSaysWhatTheReferenceDoes) {
  const v1::Recipe recipe = MustParse(SourceFolder() / "script/recipes/lung_2d/recipe.textproto");
  EXPECT_TRUE(recipe.preparation().orientation().empty());
  EXPECT_FALSE(recipe.preparation().has_spacing());
  ASSERT_EQ(recipe.preparation().intensity_size(), 2);
  EXPECT_EQ(recipe.preparation().intensity(0).clip().min(), -1024);
  EXPECT_EQ(recipe.preparation().intensity(0).clip().max(), 3071);
  EXPECT_EQ(recipe.preparation().intensity(1).affine().shift(), 1024);
  EXPECT_EQ(recipe.network().spatial_dims(), 2U);
  EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_ZYX);
  EXPECT_EQ(recipe.decode(3).keep_largest().count(), 2U);
  EXPECT_TRUE(recipe.coverage().has_label_inside());
}

TEST(ShippedRecipesTest, NoduleFinderSaysWhatTheReferenceDoes) {
  const v1::Recipe recipe = MustParse(SourceFolder() / "script/recipes/nodule_finder_d8/recipe.textproto");
  EXPECT_EQ(recipe.preparation().orientation(), "LPS");
  EXPECT_EQ(recipe.preparation().spacing().spacing_mm(2), 2);
  EXPECT_EQ(recipe.preparation().intensity(1).affine().shift(), -0.028);
  EXPECT_EQ(recipe.windows().context().before(), 4U);
  EXPECT_EQ(recipe.windows().context().after(), 3U);
  EXPECT_EQ(recipe.windows().xy_multiple_of(), 4U);
  EXPECT_EQ(recipe.windows().padding_mode(), v1::PADDING_MODE_REPLICATE);
}

TEST(BundleRecipesTest, AllAreValid) {
  int bundles = 0;
  for (const auto& entry : fs::directory_iterator(SourceFolder() / "tests/models/bundles")) {
    MustParse(entry.path());
    ++bundles;
  }
  EXPECT_EQ(bundles, 10);
}

TEST(BundleRecipesTest, NestedRegionsPaintInTheirOrder) {
  const v1::Recipe recipe =
      MustParse(SourceFolder() / "tests/models/bundles/brats_mri_segmentation.textproto");
  ASSERT_EQ(recipe.decode_size(), 3);
  EXPECT_EQ(recipe.inputs_size(), 4);
  EXPECT_EQ(recipe.decode(2).threshold().paint_order(0), 1U) << "the whole tumour paints first";
}

TEST(BundleRecipesTest, WholeBodyNeedsOneByteALabel) {
  const v1::Recipe recipe =
      MustParse(SourceFolder() / "tests/models/bundles/wholeBody_ct_segmentation.textproto");
  EXPECT_EQ(recipe.labels_size(), 104);
  EXPECT_EQ(LabelBytesPerVoxel(recipe), 1U);
}

}  // namespace
}  // namespace tomoserve::models
