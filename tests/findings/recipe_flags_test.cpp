// Flag rules of recipes that the project ships and that it imports, on both sides of each bound.
#include <gmock/gmock.h>

#include "findings/builders.h"
#include "models/import_fixtures.h"

namespace tomoserve::findings {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::FlagLevel LevelOf(const v1::Recipe& recipe, const v1::Finding& finding) {
  return JudgeFlag(recipe, {finding}, Covered(v1::COVERAGE_TARGET_COMPLETE)).level();
}

void ExpectNoduleFlags(const v1::Recipe& recipe) {
  const auto level = [&](double mean_mm, double score) {
    v1::Finding finding = Nodule(14, score);  // long, whatever its mean diameter
    finding.mutable_mean_diameter_mm()->set_value(mean_mm);
    return LevelOf(recipe, finding);
  };
  EXPECT_EQ(level(6, 0.5), v1::FLAG_LEVEL_ATTENTION);
  EXPECT_EQ(level(5.99, 0.5), v1::FLAG_LEVEL_INFO);
  EXPECT_EQ(level(6, 0.49), v1::FLAG_LEVEL_INFO);
}

TEST(RecipeFlagsTest, NodulesOfShippedRecipes) {
  const std::filesystem::path folder = TOMOSERVE_SOURCE_DIR;
  for (const char* entry : {"models/nodule_blob/1", "models/lung_nodule_phantom/1",
                            "script/recipes/nodule_finder_d8", "script/recipes/nodule_finder_in_lung"}) {
    SCOPED_TRACE(entry);
    const auto recipe = models::ParseRecipe(models::ReadText(folder / entry / "recipe.textproto"));
    ASSERT_TRUE(recipe.ok()) << recipe.status();
    ExpectNoduleFlags(*recipe);
  }
}

TEST(RecipeFlagsTest, NodulesOfAnImportedDetector) {
  const auto file = testing::Reference() / "c1_lung_nodule_sliding" / "model.ts";
  TS_SKIP_WITHOUT(file);
  const models::ImportedModel model = models::importer::MustImport({file.string()});
  ExpectNoduleFlags(model.recipe);
  EXPECT_THAT(model.notes, Contains(StartsWith("A nodule")));
  EXPECT_THAT(model.card, HasSubstr("A nodule with a mean diameter of at least 6 mm"));
}

TEST(RecipeFlagsTest, TheSpleenOfAnImportedBundle) {
  const auto file = testing::Reference() / "a_spleen_like" / "model.ts";
  TS_SKIP_WITHOUT(file);
  const models::ImportedModel model = models::importer::MustImport({file.string()});
  const auto level = [&](double volume_ml) {
    v1::Finding finding = Nodule(120, 0.9);
    finding.set_label("spleen");
    finding.mutable_volume_ml()->set_value(volume_ml);
    return LevelOf(model.recipe, finding);
  };
  EXPECT_EQ(level(314), v1::FLAG_LEVEL_INFO);
  EXPECT_EQ(level(314.001), v1::FLAG_LEVEL_ATTENTION);
  EXPECT_THAT(model.notes, Contains(StartsWith("A spleen of more than 314 ml raises ATTENTION")));
}

TEST(RecipeFlagsTest, OtherLabelsOfAnImportAreInformationOnly) {
  const auto file = testing::Reference() / "d1_nnunet_fullres" / "model.ts";
  TS_SKIP_WITHOUT(file);
  const models::ImportedModel model = models::importer::MustImport({file.string()});
  EXPECT_EQ(model.recipe.flags_size(), model.recipe.labels_size());
  for (const v1::FlagRule& rule : model.recipe.flags()) EXPECT_EQ(rule.level(), v1::FLAG_LEVEL_INFO);
}

}  // namespace
}  // namespace tomoserve::findings
