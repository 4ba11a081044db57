#include "tomoserve/models/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
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

TEST(ValidateRecipeTest, AcceptsWhatRunsBesideTheUsual) {
  const auto valid = ParseRecipe(kValidRecipe);
  ASSERT_TRUE(valid.ok());
  const auto expect_accepted = [&](const char* what, const std::function<void(v1::Recipe&)>& change) {
    v1::Recipe recipe = *valid;
    change(recipe);
    EXPECT_TRUE(ValidateRecipe(recipe).ok()) << what << ": " << ValidateRecipe(recipe);
  };
  expect_accepted("windows within a slice", [](v1::Recipe& recipe) {
    recipe.mutable_windows()->set_size(2, 1);
    recipe.mutable_network()->set_spatial_dims(2);
  });
  expect_accepted("one whole axis", [](v1::Recipe& recipe) { recipe.mutable_windows()->set_size(1, 0); });
  expect_accepted("the whole volume", [](v1::Recipe& recipe) {
    for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 0);
    recipe.mutable_windows()->set_overlap(0);
    recipe.mutable_windows()->clear_blend();
  });
  expect_accepted("an ensemble", [](v1::Recipe& recipe) { recipe.mutable_network()->add_files("b.ts"); });
  expect_accepted("percentiles", [](v1::Recipe& recipe) {
    v1::ScalePercentiles& step = *recipe.mutable_preparation()->add_intensity()->mutable_scale_percentiles();
    step.set_lower(2);
    step.set_upper(98);
    step.set_to_max(1);
  });
  for (int axes = v1::TENSOR_AXES_XYZ; axes <= v1::TENSOR_AXES_XZY; ++axes) {
    expect_accepted("an order of axes", [&](v1::Recipe& recipe) {
      recipe.mutable_network()->set_axes(static_cast<v1::TensorAxes>(axes));
    });
  }
  expect_accepted("a mean diameter", [](v1::Recipe& recipe) {
    recipe.mutable_flags(0)->mutable_mean_diameter_mm()->set_min(6);
  });
  expect_accepted("holes and merged labels, before the volume's grid and on it", [](v1::Recipe& recipe) {
    recipe.mutable_network()->set_output_channels(3);
    *recipe.add_labels() = recipe.labels(0);
    recipe.mutable_labels(1)->set_value(2);
    recipe.mutable_labels(1)->set_name("part");
    recipe.mutable_decode(1)->mutable_arg_max();
    recipe.mutable_decode(2)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
    recipe.mutable_decode(3)->mutable_fill_holes()->set_label(2);
    recipe.add_decode()->mutable_merge_labels()->add_from(2);
    recipe.mutable_decode(4)->mutable_merge_labels()->set_into(1);
    recipe.add_decode()->mutable_fill_holes()->set_label(1);
    recipe.mutable_decode()->SwapElements(2, 3);
    recipe.add_decode()->mutable_keep_largest()->set_label(1);
    recipe.mutable_decode(6)->mutable_keep_largest()->set_count(1);
  });
}

TEST(LabelBytesTest, FollowsTheHighestLabelValue) {
  v1::Recipe recipe;
  recipe.add_labels()->set_value(255);
  EXPECT_EQ(LabelBytesPerVoxel(recipe), 1U);
  recipe.add_labels()->set_value(256);
  EXPECT_EQ(LabelBytesPerVoxel(recipe), 2U);
  EXPECT_EQ(LabelBytesPerVoxel(v1::Recipe()), 1U);
}

TEST(ParseRecipeTest, AcceptsWhatNnunetDoes) {
  v1::Recipe recipe = ParseRecipe(kValidRecipe).value();
  v1::Preparation& preparation = *recipe.mutable_preparation();
  preparation.mutable_crop()->set_margin_voxels(1);
  preparation.set_intensity_before_spacing(true);
  preparation.mutable_intensity(0)->mutable_z_score()->set_nonzero(true);
  preparation.mutable_intensity(0)->mutable_z_score()->set_fill_holes(true);
  preparation.mutable_spacing()->set_rule(v1::SPACING_RULE_NNUNET);
  preparation.mutable_spacing()->set_interpolation(v1::INTERPOLATION_CUBIC);
  preparation.mutable_spacing()->set_low_resolution_axis(v1::LOW_RESOLUTION_AXIS_TOGETHER);
  recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

}  // namespace
}  // namespace tomoserve::models
