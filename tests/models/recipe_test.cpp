#include "tomoserve/models/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "absl/strings/str_replace.h"
#include "models/recipes.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models {
namespace {

using ::testing::HasSubstr;

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// kValidRecipe with `from` replaced by `to`.
std::string Replaced(const char* from, const std::string& to) {
  const std::string text = absl::StrReplaceAll(kValidRecipe, {{from, to}});
  EXPECT_NE(text, kValidRecipe) << from;
  return text;
}

TEST(ParseRecipeTest, ReadsEveryPart) {
  const auto recipe = ParseRecipe(kValidRecipe);
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  EXPECT_EQ(recipe->title(), "Blobs");
  EXPECT_EQ(recipe->windows().size(2), 64U);
  EXPECT_EQ(recipe->decode_size(), 4);
  EXPECT_EQ(recipe->labels(0).type().value(), "27925004");
  EXPECT_EQ(recipe->coverage().lung_inside().min_volume_ml(), 1000);
}

TEST(ParseRecipeTest, AcceptsSliceRecipes) { EXPECT_TRUE(ParseRecipe(kSliceRecipe).ok()); }

TEST(ParseRecipeTest, NamesLineAndColumnOfASyntaxError) {
  const auto recipe = ParseRecipe("title: \"x\"\ncard {\n  author: 5\n}\n");
  ASSERT_FALSE(recipe.ok());
  EXPECT_EQ(recipe.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_SYNTAX");
  EXPECT_EQ(base::ValueOf(recipe.status()), "3:11");
  EXPECT_THAT(Text(recipe.status()), HasSubstr("3:11"));
}

TEST(ParseRecipeTest, NamesAnUnknownField) {
  const auto recipe = ParseRecipe(Replaced("overlap: 0.5", "overlapp: 0.5"));
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_SYNTAX");
  EXPECT_THAT(Text(recipe.status()), HasSubstr("overlapp"));
}

TEST(ParseRecipeTest, NamesAnUnknownEnumValue) {
  const auto recipe = ParseRecipe(Replaced("BLEND_GAUSSIAN", "BLEND_CUBIC"));
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_SYNTAX");
  EXPECT_THAT(Text(recipe.status()), HasSubstr("BLEND_CUBIC"));
}

TEST(ParseRecipeTest, RefusesAFieldThatStandsTwice) {
  const auto recipe = ParseRecipe(Replaced("overlap: 0.5", "overlap: 0.5 overlap: 0.25"));
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_SYNTAX");
  EXPECT_THAT(Text(recipe.status()), HasSubstr("overlap"));
}

TEST(ParseRecipeTest, RefusesTwoMembersOfAOneof) {
  const auto recipe = ParseRecipe(Replaced("arg_max {}", "arg_max {} threshold { above: 0.5 }"));
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_SYNTAX");
  EXPECT_THAT(Text(recipe.status()), HasSubstr("threshold"));
}

TEST(ParseRecipeTest, SurvivesBytesThatAreNoRecipe) {
  EXPECT_EQ(base::ReasonOf(ParseRecipe(std::string(1000, '\0')).status()), "RECIPE_SYNTAX");
  EXPECT_EQ(base::ReasonOf(ParseRecipe("\xFF\xFE title").status()), "RECIPE_SYNTAX");
  EXPECT_EQ(base::ReasonOf(ParseRecipe(std::string(100000, '{')).status()), "RECIPE_SYNTAX");
  EXPECT_EQ(base::ReasonOf(ParseRecipe(std::string(kValidRecipe).substr(0, 300)).status()), "RECIPE_SYNTAX");
  EXPECT_EQ(base::ReasonOf(ParseRecipe(std::string((32U << 20) + 1, ' ')).status()), "RECIPE_SYNTAX");
}

TEST(ParseRecipeTest, RefusesAnEmptyRecipeByItsFirstMissingField) {
  const auto recipe = ParseRecipe("");
  EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_INVALID");
  EXPECT_EQ(base::ValueOf(recipe.status()), "title");
}

TEST(ParseRecipeTest, RefusesTextThatIsNoPlainUtf8) {
  for (const char* bad :
       {"\\377", "\\300\\200", "\\355\\240\\200", "\\364\\220\\200\\200", "\\342\\202", "\\n", "\\177"}) {
    const auto recipe = ParseRecipe(Replaced("Finds nothing.", bad));
    EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_INVALID") << bad;
    EXPECT_EQ(base::ValueOf(recipe.status()), "card.limitations[0]") << bad;
  }
  EXPECT_TRUE(ParseRecipe(Replaced("Finds nothing.", "Ganglienzellgröße ≤ 5 µm, 肺, 😀")).ok());
}

TEST(ParseRecipeTest, RefusesNumbersThatAreNotFinite) {
  for (const char* bad : {"nan", "inf", "-inf"}) {
    const auto recipe = ParseRecipe(Replaced("from_min: -57", std::string("from_min: ") + bad));
    EXPECT_EQ(base::ReasonOf(recipe.status()), "RECIPE_INVALID") << bad;
    EXPECT_EQ(base::ValueOf(recipe.status()), "preparation.intensity[0].scale_range.from_min") << bad;
  }
}

TEST(ValidateRecipeTest, RefusesFieldsOfAnotherSchema) {
  auto recipe = ParseRecipe(kValidRecipe);
  ASSERT_TRUE(recipe.ok());
  v1::Windows* windows = recipe->mutable_windows();
  windows->GetReflection()->MutableUnknownFields(windows)->AddVarint(900, 1);
  const absl::Status status = ValidateRecipe(*recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_INVALID");
  EXPECT_EQ(base::ValueOf(status), "windows");
}

TEST(ValidateRecipeTest, RefusesEnumNumbersThatAreNotKnown) {
  auto recipe = ParseRecipe(kValidRecipe);
  ASSERT_TRUE(recipe.ok());
  recipe->mutable_windows()->set_layout(static_cast<v1::WindowLayout>(77));
  EXPECT_EQ(base::ValueOf(ValidateRecipe(*recipe)), "windows.layout");
}

TEST(LabelBytesTest, FollowsTheHighestLabelValue) {
  v1::Recipe recipe;
  recipe.add_labels()->set_value(255);
  EXPECT_EQ(LabelBytesPerVoxel(recipe), 1U);
  recipe.add_labels()->set_value(256);
  EXPECT_EQ(LabelBytesPerVoxel(recipe), 2U);
  EXPECT_EQ(LabelBytesPerVoxel(v1::Recipe()), 1U);
}

}  // namespace
}  // namespace tomoserve::models
