// What validation refuses of laterality, anatomic sites, distances, and flag rules on them.
#include <string>

#include "models/invalid_recipes.h"

namespace tomoserve::models {
namespace {

// kValidRecipe with a second label "spine" (2), the side by it, the distance to it, and a flag on all of it.
std::string MeasuresRecipe() {
  std::string text = kValidRecipe;
  text += R"(
labels {
  value: 2
  name: "spine"
  type { value: "421060004" scheme: "SCT" meaning: "Vertebral column" }
  category { value: "123037004" scheme: "SCT" meaning: "Anatomical Structure" }
}
)";
  const auto replace = [&](const std::string& from, const std::string& to) {
    text.replace(text.find(from), from.size(), to);
  };
  replace("output_channels: 2", "output_channels: 3");
  replace("min_longest_diameter_mm: 4 }", R"(min_longest_diameter_mm: 4 distance_to: 2
  laterality { of_midplane { label: 2 margin_mm: 5 } }
  anatomic_site { value: "39607008" scheme: "SCT" meaning: "Lung" } })");
  replace("longest_diameter_mm { min: 6 }", R"(longest_diameter_mm { min: 6 } side: TOWARDS_LEFT
  mean_hu { min: -700 } distances { to_label: 2 mm { max: 10 } })");
  return text;
}

class InvalidMeasuresTest : public ::testing::TestWithParam<Case> {};

TEST_P(InvalidMeasuresTest, NamesTheField) {
  ExpectRefused(MeasuresRecipe().c_str(), GetParam(), "RECIPE_INVALID");
}

v1::LateralityRule& Laterality(R r) { return *r.mutable_findings(0)->mutable_laterality(); }

// Label 2 goes: it becomes label 1.
void MergeSpine(R r) {
  v1::MergeLabels& merge = *r.add_decode()->mutable_merge_labels();
  merge.add_from(2);
  merge.set_into(1);
}

INSTANTIATE_TEST_SUITE_P(
    Findings, InvalidMeasuresTest,
    ::testing::Values(
        Case{"NoLateralityRule", [](R r) { Laterality(r).Clear(); }, "findings[0].laterality"},
        Case{"SideOfALabelWithoutOne", [](R r) { Laterality(r).mutable_of_label(); },
             "findings[0].laterality.of_label"},
        Case{"SideOfALabelOfBoth",
             [](R r) {
               r.mutable_labels(0)->set_name("left and right lung");
               Laterality(r).mutable_of_label();
             },
             "findings[0].laterality.of_label"},
        Case{"MidplaneOfNothing", [](R r) { Laterality(r).mutable_of_midplane()->clear_label(); },
             "findings[0].laterality.of_midplane.label"},
        Case{"MidplaneOfItself", [](R r) { Laterality(r).mutable_of_midplane()->set_label(1); },
             "findings[0].laterality.of_midplane.label"},
        Case{"MidplaneMargin", [](R r) { Laterality(r).mutable_of_midplane()->set_margin_mm(-1); },
             "findings[0].laterality.of_midplane.margin_mm"},
        Case{"MidplaneOfAMergedLabel",
             [](R r) {
               MergeSpine(r);
               r.mutable_findings(0)->clear_distance_to();
               r.mutable_flags(0)->clear_distances();
             },
             "findings[0].laterality.of_midplane.label"},
        Case{"SiteWithoutScheme", [](R r) { r.mutable_findings(0)->mutable_anatomic_site()->clear_scheme(); },
             "findings[0].anatomic_site.scheme"},
        Case{"DistanceToNothing", [](R r) { r.mutable_findings(0)->set_distance_to(0, 7); },
             "findings[0].distance_to[0]"},
        Case{"DistanceToItself", [](R r) { r.mutable_findings(0)->set_distance_to(0, 1); },
             "findings[0].distance_to[0]"},
        Case{"DistanceTwice", [](R r) { r.mutable_findings(0)->add_distance_to(2); },
             "findings[0].distance_to[1]"},
        Case{"DistanceToAMergedLabel",
             [](R r) {
               MergeSpine(r);
               r.mutable_findings(0)->clear_laterality();
               r.mutable_flags(0)->clear_side();
             },
             "findings[0].distance_to[0]"},
        Case{"DistanceToALabelThatChangesOnTheVolumesGrid",
             [](R r) {
               r.mutable_findings(0)->set_on_model_grid(true);
               r.mutable_decode(1)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_NEAREST);
               r.mutable_decode()->SwapElements(1, 2);  // activation, arg_max, to_volume_grid, keep_largest
               r.mutable_decode(3)->mutable_keep_largest()->set_label(2);
             },
             "findings[0].distance_to[0]"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Flags, InvalidMeasuresTest,
    ::testing::Values(
        Case{"MeanOfNothing", [](R r) { r.mutable_flags(0)->mutable_mean_hu()->Clear(); },
             "flags[0].mean_hu"},
        Case{"MeanEmpty", [](R r) { r.mutable_flags(0)->mutable_mean_hu()->set_max(-900); },
             "flags[0].mean_hu"},
        Case{"MeanHuge", [](R r) { r.mutable_flags(0)->mutable_mean_hu()->set_max(1e7); },
             "flags[0].mean_hu"},
        Case{"MeanOfAnMr",
             [](R r) {
               r.mutable_inputs(0)->set_modalities(0, "MR");
               r.mutable_coverage()->mutable_not_needed()->set_because("a test");
             },
             "flags[0].mean_hu"},
        Case{"DistanceThatIsNotMeasured", [](R r) { r.mutable_findings(0)->clear_distance_to(); },
             "flags[0].distances[0].to_label"},
        Case{"DistanceWithoutBounds",
             [](R r) { r.mutable_flags(0)->mutable_distances(0)->mutable_mm()->Clear(); },
             "flags[0].distances[0].mm"},
        Case{"DistanceNegative",
             [](R r) { r.mutable_flags(0)->mutable_distances(0)->mutable_mm()->set_min(-1); },
             "flags[0].distances[0].mm"},
        Case{"SideThatIsNone", [](R r) { r.mutable_flags(0)->set_side(v1::TOWARDS_SUPERIOR); },
             "flags[0].side"},
        Case{"SideThatIsNotKnown", [](R r) { r.mutable_findings(0)->clear_laterality(); }, "flags[0].side"}),
    CaseName);

class BoxMeasuresTest : public ::testing::TestWithParam<Case> {};

TEST_P(BoxMeasuresTest, NeedALabelMap) {
  const std::string recipe =
      ReadText(SourceFolder() / "tests/models/bundles/lung_nodule_ct_detection.textproto");
  ExpectRefused(recipe.c_str(), GetParam(), "RECIPE_INVALID");
}

INSTANTIATE_TEST_SUITE_P(
    Boxes, BoxMeasuresTest,
    ::testing::Values(Case{"Midplane", [](R r) { Laterality(r).mutable_of_midplane()->set_label(1); },
                           "findings[0].laterality.of_midplane"},
                      Case{"Distance", [](R r) { r.mutable_findings(0)->add_distance_to(1); },
                           "findings[0].distance_to[0]"},
                      Case{"Mean", [](R r) { r.mutable_flags(0)->mutable_mean_hu()->set_min(0); },
                           "flags[0].mean_hu"}),
    CaseName);

TEST(MeasuresRecipeTest, IsValid) {
  v1::Recipe recipe = Valid(MeasuresRecipe().c_str());
  recipe.mutable_labels(0)->set_name("left blob");
  Laterality(recipe).mutable_of_label();
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

TEST(MeasuresRecipeTest, ARegionCutsTheMiddleOff) {
  v1::Recipe recipe = Valid(MeasuresRecipe().c_str());
  recipe.mutable_region()->set_model("other");
  recipe.mutable_region()->add_labels(1);
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_UNSUPPORTED") << status;
  EXPECT_EQ(base::ValueOf(status), "findings[0].laterality.of_midplane");
}

}  // namespace
}  // namespace tomoserve::models
