// What validation refuses of decode steps, labels, findings, flags and coverage.
#include "models/invalid_recipes.h"

namespace tomoserve::models {
namespace {

class InvalidOutputRecipeTest : public ::testing::TestWithParam<Case> {};

TEST_P(InvalidOutputRecipeTest, NamesTheField) { ExpectRefused(kValidRecipe, GetParam(), "RECIPE_INVALID"); }

// A second label of a third channel, and a step that merges label 2 into label 1.
v1::MergeLabels& Merge(R r) {
  r.mutable_network()->set_output_channels(3);
  *r.add_labels() = r.labels(0);
  r.mutable_labels(1)->set_value(2);
  r.mutable_labels(1)->set_name("other");
  v1::MergeLabels& merge = *r.add_decode()->mutable_merge_labels();
  merge.add_from(2);
  merge.set_into(1);
  return merge;
}

INSTANTIATE_TEST_SUITE_P(
    Decode, InvalidOutputRecipeTest,
    ::testing::Values(
        Case{"NoStep", [](R r) { r.clear_decode(); }, "decode"},
        Case{"EmptyStep", [](R r) { r.add_decode(); }, "decode[4]"},
        Case{"NoActivation", [](R r) { r.mutable_decode()->DeleteSubrange(0, 1); }, "decode[1].arg_max"},
        Case{"UnspecifiedActivation",
             [](R r) { r.mutable_decode(0)->set_activation(v1::ACTIVATION_UNSPECIFIED); },
             "decode[0].activation"},
        Case{"TwoActivations", [](R r) { r.mutable_decode(1)->set_activation(v1::ACTIVATION_NONE); },
             "decode[1].activation"},
        Case{"ActivationOfLabels", [](R r) { r.mutable_decode()->SwapElements(0, 3); },
             "decode[0].keep_largest"},
        Case{"ActivationAfterLabels", [](R r) { r.add_decode()->set_activation(v1::ACTIVATION_NONE); },
             "decode[4].activation"},
        Case{"NoVolumeGrid", [](R r) { r.mutable_decode()->DeleteSubrange(1, 1); }, "decode"},
        Case{"VolumeGridTwice", [](R r) { *r.add_decode() = r.decode(1); }, "decode[4].to_volume_grid"},
        Case{"VolumeGridInterpolation",
             [](R r) { r.mutable_decode(1)->mutable_to_volume_grid()->clear_interpolation(); },
             "decode[1].to_volume_grid.interpolation"},
        Case{"CubicScores",
             [](R r) {
               r.mutable_decode(1)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_CUBIC);
             },
             "decode[1].to_volume_grid.interpolation"},
        Case{"NoLabels", [](R r) { r.mutable_decode()->DeleteSubrange(2, 2); }, "decode"},
        Case{"ArgMaxTwice", [](R r) { r.add_decode()->mutable_arg_max(); }, "decode[4].arg_max"},
        Case{"ThresholdOfLabels", [](R r) { r.add_decode()->mutable_threshold(); }, "decode[4].threshold"},
        Case{"ChannelWithoutLabel", [](R r) { r.mutable_network()->set_output_channels(3); }, "labels"},
        Case{"LabelWithoutChannel",
             [](R r) {
               *r.add_labels() = r.labels(0);
               r.mutable_labels(1)->set_value(2);
               r.mutable_labels(1)->set_name("other");
             },
             "labels"},
        Case{"KeepUnknownLabel", [](R r) { r.mutable_decode(3)->mutable_keep_largest()->set_label(2); },
             "decode[3].keep_largest.label"},
        Case{"KeepNone", [](R r) { r.mutable_decode(3)->mutable_keep_largest()->set_count(0); },
             "decode[3].keep_largest.count"},
        Case{"FillUnknownLabel", [](R r) { r.add_decode()->mutable_fill_holes()->set_label(2); },
             "decode[4].fill_holes.label"},
        Case{"FillScores", [](R r) { r.mutable_decode(0)->mutable_fill_holes()->set_label(1); },
             "decode[0].fill_holes"},
        Case{"MergeScores", [](R r) { r.mutable_decode(0)->mutable_merge_labels(); },
             "decode[0].merge_labels"},
        Case{"MergeNothing", [](R r) { Merge(r).clear_from(); }, "decode[4].merge_labels.from"},
        Case{"MergeUnknown", [](R r) { Merge(r).set_from(0, 3); }, "decode[4].merge_labels.from[0]"},
        Case{"MergeTwice", [](R r) { Merge(r).add_from(2); }, "decode[4].merge_labels.from[1]"},
        Case{"MergeIntoItself", [](R r) { Merge(r).set_into(2); }, "decode[4].merge_labels.from[0]"},
        Case{"MergeIntoUnknown", [](R r) { Merge(r).set_into(7); }, "decode[4].merge_labels.into"},
        Case{"KeepMergedLabel",
             [](R r) {
               Merge(r);
               r.add_decode()->mutable_keep_largest()->set_label(2);
             },
             "decode[5].keep_largest.label"},
        Case{"FillMergedLabel",
             [](R r) {
               Merge(r);
               r.add_decode()->mutable_fill_holes()->set_label(2);
             },
             "decode[5].fill_holes.label"},
        Case{"MergeIntoMergedLabel",
             [](R r) {
               Merge(r);
               r.add_decode()->mutable_merge_labels()->add_from(1);
               r.mutable_decode(5)->mutable_merge_labels()->set_into(2);
             },
             "decode[5].merge_labels.into"},
        Case{"FindMergedLabel",
             [](R r) {
               Merge(r);
               r.mutable_findings(0)->set_label(2);
             },
             "findings[0].label"},
        Case{"CoverMergedLabel",
             [](R r) {
               Merge(r);
               r.mutable_coverage()->mutable_label_inside()->set_label(2);
             },
             "coverage.label_inside.label"},
        Case{"BoxesBesideOtherSteps", [](R r) { r.mutable_decode(0)->mutable_detect_boxes(); },
             "decode[0].detect_boxes"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Meaning, InvalidOutputRecipeTest,
    ::testing::Values(
        Case{"NoLabel", [](R r) { r.clear_labels(); }, "labels"},
        Case{"Background", [](R r) { r.mutable_labels(0)->set_value(0); }, "labels[0].value"},
        Case{"HugeValue", [](R r) { r.mutable_labels(0)->set_value(65536); }, "labels[0].value"},
        Case{"SameValue", [](R r) { *r.add_labels() = r.labels(0); }, "labels[1].value"},
        Case{"SameName",
             [](R r) {
               *r.add_labels() = r.labels(0);
               r.mutable_labels(1)->set_value(2);
             },
             "labels[1].name"},
        Case{"LabelName", [](R r) { r.mutable_labels(0)->clear_name(); }, "labels[0].name"},
        Case{"LabelBackslash", [](R r) { r.mutable_labels(0)->set_name("a\\b"); }, "labels[0].name"},
        Case{"NoType", [](R r) { r.mutable_labels(0)->clear_type(); }, "labels[0].type.value"},
        Case{"LongCode", [](R r) { r.mutable_labels(0)->mutable_type()->set_value(std::string(17, '1')); },
             "labels[0].type.value"},
        Case{"NoScheme", [](R r) { r.mutable_labels(0)->mutable_type()->clear_scheme(); },
             "labels[0].type.scheme"},
        Case{"NoCategory", [](R r) { r.mutable_labels(0)->mutable_category()->clear_meaning(); },
             "labels[0].category.meaning"},
        Case{"Colour", [](R r) { r.mutable_labels(0)->set_rgb(0x1000000); }, "labels[0].rgb"},
        Case{"NoFindingRule", [](R r) { r.clear_findings(); }, "findings"},
        Case{"FindingLabel", [](R r) { r.mutable_findings(0)->set_label(3); }, "findings[0].label"},
        Case{"TwoRulesOfALabel", [](R r) { *r.add_findings() = r.findings(0); }, "findings[1].label"},
        Case{"MinVolume", [](R r) { r.mutable_findings(0)->set_min_volume_ml(-1); },
             "findings[0].min_volume_ml"},
        Case{"MinDiameter", [](R r) { r.mutable_findings(0)->set_min_longest_diameter_mm(-1); },
             "findings[0].min_longest_diameter_mm"},
        Case{"MaxFindings", [](R r) { r.mutable_findings(0)->set_max_findings(1001); },
             "findings[0].max_findings"},
        Case{"MinScore", [](R r) { r.mutable_findings(0)->set_min_score(-1); }, "findings[0].min_score"},
        Case{"ScoresBeforeTheModelGridsObjects", [](R r) { r.mutable_findings(0)->set_on_model_grid(true); },
             "findings[0].on_model_grid"},
        Case{"StepsAfterTheModelGridsObjects",
             [](R r) {
               r.mutable_findings(0)->set_on_model_grid(true);
               r.mutable_decode(1)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
               r.mutable_decode()->SwapElements(1, 2);
             },
             "findings[0].on_model_grid"},
        Case{"NoFlagRule", [](R r) { r.clear_flags(); }, "flags"},
        Case{"FlagLabel", [](R r) { r.mutable_flags(0)->set_label(3); }, "flags[0].label"},
        Case{"FlagLevel", [](R r) { r.mutable_flags(0)->clear_level(); }, "flags[0].level"},
        Case{"FlagRange", [](R r) { r.mutable_flags(0)->mutable_longest_diameter_mm()->set_max(5); },
             "flags[0].longest_diameter_mm"},
        Case{"FlagMeanDiameter", [](R r) { r.mutable_flags(0)->mutable_mean_diameter_mm()->set_min(-1); },
             "flags[0].mean_diameter_mm"},
        Case{"FlagMeanDiameterEmpty",
             [](R r) {
               r.mutable_flags(0)->mutable_mean_diameter_mm()->set_min(6);
               r.mutable_flags(0)->mutable_mean_diameter_mm()->set_max(5);
             },
             "flags[0].mean_diameter_mm"},
        Case{"FlagVolume", [](R r) { r.mutable_flags(0)->mutable_volume_ml()->set_min(-1); },
             "flags[0].volume_ml"},
        Case{"NoCoverage", [](R r) { r.clear_coverage(); }, "coverage"},
        Case{"CoverageReason", [](R r) { r.mutable_coverage()->mutable_not_needed(); },
             "coverage.not_needed.because"},
        Case{"LungOnMr", [](R r) { r.mutable_inputs(0)->add_modalities("MR"); }, "coverage.lung_inside"},
        Case{"LungVolume", [](R r) { r.mutable_coverage()->mutable_lung_inside()->set_min_volume_ml(0); },
             "coverage.lung_inside.min_volume_ml"},
        Case{"LungMargin", [](R r) { r.mutable_coverage()->mutable_lung_inside()->set_margin_mm(-1); },
             "coverage.lung_inside.margin_mm"}),
    CaseName);

// Adds "label 1 lies to the right of label 2", which is valid.
v1::PlausibilityRule& Rule(R r) {
  *r.add_labels() = r.labels(0);
  r.mutable_labels(1)->set_value(2);
  r.mutable_labels(1)->set_name("other");
  r.mutable_network()->set_output_channels(3);
  v1::PlausibilityRule& rule = *r.add_plausibility();
  rule.set_label(1);
  rule.set_towards(v1::TOWARDS_RIGHT);
  rule.set_of_label(2);
  return rule;
}

INSTANTIATE_TEST_SUITE_P(
    Plausibility, InvalidOutputRecipeTest,
    ::testing::Values(Case{"RuleLabel", [](R r) { Rule(r).set_label(7); }, "plausibility[0].label"},
                      Case{"RuleSide", [](R r) { Rule(r).clear_towards(); }, "plausibility[0].towards"},
                      Case{"RuleOfLabel", [](R r) { Rule(r).set_of_label(7); }, "plausibility[0].of_label"},
                      Case{"RuleOfItself", [](R r) { Rule(r).set_of_label(1); }, "plausibility[0].of_label"},
                      Case{"RuleBy", [](R r) { Rule(r).set_by_mm(-1); }, "plausibility[0].by_mm"},
                      Case{"RuleOfBoth", [](R r) { Rule(r).mutable_volume_ml()->set_min(1); },
                           "plausibility[0].volume_ml"},
                      Case{"RuleOfNothing",
                           [](R r) {
                             r.add_plausibility()->set_label(1);
                             r.mutable_plausibility(0)->mutable_volume_ml();
                           },
                           "plausibility[0].volume_ml"},
                      Case{"RuleVolume",
                           [](R r) {
                             r.add_plausibility()->set_label(1);
                             r.mutable_plausibility(0)->mutable_volume_ml()->set_min(3);
                             r.mutable_plausibility(0)->mutable_volume_ml()->set_max(2);
                           },
                           "plausibility[0].volume_ml"}),
    CaseName);

TEST(LinearLabelsRecipeTest, EveryValueUpToTheHighestIsALabel) {
  v1::Recipe recipe = *ParseRecipe(kValidRecipe);
  recipe.mutable_network()->set_output_channels(3);
  *recipe.add_labels() = recipe.labels(0);
  recipe.mutable_labels(1)->set_value(2);
  recipe.mutable_labels(1)->set_name("second");
  recipe.mutable_decode()->SwapElements(1, 2);  // activation, arg_max, to_volume_grid LINEAR, keep_largest
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  recipe.mutable_decode(1)->mutable_threshold()->set_above(0.5);
  recipe.mutable_network()->set_output_channels(2);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  for (const std::uint32_t value : {3, 256}) {
    recipe.mutable_labels(1)->set_value(value);
    EXPECT_EQ(base::ValueOf(ValidateRecipe(recipe)), "decode[2].to_volume_grid.interpolation") << value;
  }
}

TEST(OnModelGridRecipeTest, StepsBeforeToVolumeGridAndOfOtherLabelsAreValid) {
  v1::Recipe recipe = *ParseRecipe(kValidRecipe);
  Merge(recipe);  // activation, to_volume_grid, arg_max, keep_largest 1, merge 2 into 1
  recipe.mutable_findings(0)->set_on_model_grid(true);
  recipe.mutable_decode(1)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
  recipe.mutable_decode()->SwapElements(1, 2);
  recipe.mutable_decode()->SwapElements(2, 4);  // activation, arg_max, merge, keep_largest, to_volume_grid
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  recipe.mutable_network()->set_output_channels(4);
  *recipe.add_labels() = recipe.labels(0);
  recipe.mutable_labels(2)->set_value(3);
  recipe.mutable_labels(2)->set_name("third");
  recipe.add_decode()->mutable_fill_holes()->set_label(3);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  recipe.mutable_decode(5)->mutable_fill_holes()->set_label(1);
  EXPECT_EQ(base::ValueOf(ValidateRecipe(recipe)), "findings[0].on_model_grid");
}

TEST(PlausibilityRecipeTest, ARegionCutsLabelsOff) {
  v1::Recipe recipe = Valid(kValidRecipe);
  Rule(recipe);
  recipe.mutable_region()->set_model("other");
  recipe.mutable_region()->add_labels(1);
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_UNSUPPORTED") << status;
  EXPECT_EQ(base::ValueOf(status), "plausibility");
  recipe.clear_plausibility();
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

TEST(PlausibilityRecipeTest, RulesAreValid) {
  v1::Recipe recipe = Valid(kValidRecipe);
  Rule(recipe);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
  recipe.add_plausibility()->set_label(2);
  recipe.mutable_plausibility(1)->mutable_volume_ml()->set_max(500);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

}  // namespace
}  // namespace tomoserve::models
