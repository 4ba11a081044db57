// Known answers: what validation refuses, what the files have to be, and which answers count as the known
// one.
#include "tomoserve/models/known_answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "models/invalid_recipes.h"
#include "models/known_answers.h"
#include "tomoserve/models/known_answer_verdict.h"

namespace tomoserve::models {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string RecipeText() { return std::string(kValidRecipe) + kKnownAnswer; }
v1::Recipe LabelRecipe() { return Valid(RecipeText().c_str()); }

std::string DetectorText() {
  return ReadText(SourceFolder() / "tests/models/bundles/lung_nodule_ct_detection.textproto") + R"(
known_answer {
  volume: "known_answer.npy"
  geometry {
    size_ijk: [3, 2, 2] spacing_mm: [1, 1, 2] origin_lps { }
    direction_i: [1, 0, 0] direction_j: [0, 1, 0] direction_k: [0, 0, 1]
  }
  boxes { label: 1 center_lps: [1, 2, 3] size_mm: [4, 5, 6] score: 0.9 }
  boxes { label: 1 center_lps: [10, 2, 3] size_mm: [4, 5, 6] score: 0.5 }
  box_mm: 0.1 box_score: 0.01
}
)";
}
v1::Recipe BoxRecipe() { return Valid(DetectorText().c_str()); }

class InvalidKnownAnswerTest : public ::testing::TestWithParam<Case> {};
TEST_P(InvalidKnownAnswerTest, NamesTheField) {
  ExpectRefused(RecipeText().c_str(), GetParam(), "RECIPE_INVALID");
}

v1::KnownAnswer& Known(R r) { return *r.mutable_known_answer(); }

INSTANTIATE_TEST_SUITE_P(
    Labels, InvalidKnownAnswerTest,
    ::testing::Values(
        Case{"NoVolume", [](R r) { Known(r).clear_volume(); }, "known_answer.volume"},
        Case{"VolumeElsewhere", [](R r) { Known(r).set_volume("../x.npy"); }, "known_answer.volume"},
        Case{"NoLabels", [](R r) { Known(r).clear_labels(); }, "known_answer.labels"},
        Case{"LabelsAreTheVolume", [](R r) { Known(r).set_labels("known_answer.npy"); },
             "known_answer.labels"},
        Case{"NoGeometry", [](R r) { Known(r).clear_geometry(); }, "known_answer.geometry.size_ijk"},
        Case{"Spacing", [](R r) { Known(r).mutable_geometry()->set_spacing_mm(1, 0); },
             "known_answer.geometry.spacing_mm"},
        Case{"Boxes", [](R r) { Known(r).add_boxes(); }, "known_answer.boxes"},
        Case{"BoxMm", [](R r) { Known(r).set_box_mm(1); }, "known_answer.box_mm"},
        Case{"BoxScore", [](R r) { Known(r).set_box_score(1); }, "known_answer.box_score"},
        Case{"NegativeTolerance", [](R r) { Known(r).set_differing_voxels(-0.01); },
             "known_answer.differing_voxels"},
        Case{"AnyAnswerWouldDo", [](R r) { Known(r).set_differing_voxels(0.5); },
             "known_answer.differing_voxels"}),
    CaseName);

class InvalidKnownBoxesTest : public ::testing::TestWithParam<Case> {};
TEST_P(InvalidKnownBoxesTest, NamesTheField) {
  ExpectRefused(DetectorText().c_str(), GetParam(), "RECIPE_INVALID");
}

INSTANTIATE_TEST_SUITE_P(
    Boxes, InvalidKnownBoxesTest,
    ::testing::Values(
        Case{"None", [](R r) { Known(r).clear_boxes(); }, "known_answer.boxes"},
        Case{"Labels", [](R r) { Known(r).set_labels("x.npy"); }, "known_answer.labels"},
        Case{"Voxels", [](R r) { Known(r).set_differing_voxels(0.01); }, "known_answer.differing_voxels"},
        Case{"Label", [](R r) { Known(r).mutable_boxes(1)->set_label(9); }, "known_answer.boxes[1].label"},
        Case{"Centre", [](R r) { Known(r).mutable_boxes(0)->clear_center_lps(); },
             "known_answer.boxes[0].center_lps"},
        Case{"Size", [](R r) { Known(r).mutable_boxes(0)->set_size_mm(2, 0); },
             "known_answer.boxes[0].size_mm"},
        Case{"Mm", [](R r) { Known(r).set_box_mm(11); }, "known_answer.box_mm"},
        Case{"Score", [](R r) { Known(r).set_box_score(-1); }, "known_answer.box_score"},
        Case{"EachMayBeMissing",
             [](R r) {
               for (v1::KnownBox& box : *Known(r).mutable_boxes()) box.set_score(0.11);
               Known(r).set_box_score(0.1);  // boxes above 0.02 are candidates
             },
             "known_answer.boxes"}),
    CaseName);

TEST(KnownAnswerTest, ARegionNeedsLabelsThatNobodyGives) {
  v1::Recipe recipe = LabelRecipe();
  recipe.mutable_region()->set_model("other");
  recipe.mutable_region()->add_labels(1);
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  const absl::Status status = ValidateRecipe(recipe);
  EXPECT_EQ(base::ReasonOf(status), "RECIPE_UNSUPPORTED") << status;
  EXPECT_EQ(base::ValueOf(status), "known_answer");
}

TEST(KnownAnswerTest, FilesComeInTheOrderInWhichTheyTravel) {
  EXPECT_THAT(KnownAnswerFiles(LabelRecipe()), ElementsAre("known_answer.npy", "known_answer_labels.npy"));
  EXPECT_THAT(KnownAnswerFiles(BoxRecipe()), ElementsAre("known_answer.npy"));
  EXPECT_THAT(KnownAnswerFiles(Valid(kValidRecipe)), IsEmpty());
}

// The field that is wrong with these files, and what is said of it; "" where they are read.
std::string ErrorOf(const std::vector<std::string>& files, const v1::Recipe& recipe = LabelRecipe()) {
  const auto known = ReadKnownCase(recipe, files);
  if (known.ok()) return "";
  EXPECT_EQ(base::ReasonOf(known.status()), "RECIPE_INVALID");
  return base::ValueOf(known.status()) + ": " + std::string(known.status().message());
}

TEST(KnownAnswerTest, ReadsVolumeAndLabels) {
  const std::vector<std::string> files{NpyOf(kValues, "(2, 2, 3)"), NpyOf(kLabels, "(2, 2, 3)")};
  const auto known = ReadKnownCase(LabelRecipe(), files);
  ASSERT_TRUE(known.ok()) << known.status();
  EXPECT_EQ(known->type, ipc::v1::STORED_TYPE_I16);
  EXPECT_THAT(known->labels, ElementsAre(0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0));
  const auto slice = known->Slice(0, 1);
  const std::vector<std::int16_t> second(kValues.begin() + 6, kValues.end());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(slice.data()), slice.size()), BytesOfValues(second));
}

TEST(KnownAnswerTest, SeveralInputsAreTheFirstAxis) {
  v1::Recipe recipe = LabelRecipe();
  *recipe.add_inputs() = recipe.inputs(0);
  recipe.mutable_inputs(1)->set_name("late");
  recipe.mutable_network()->set_input_channels(2);
  std::vector<std::int16_t> values = kValues;
  values.insert(values.end(), kValues.begin(), kValues.end());
  const std::string labels = NpyOf(kLabels, "(2, 2, 3)");
  EXPECT_EQ(ErrorOf({NpyOf(values, "(2, 2, 2, 3)"), labels}, recipe), "");
  EXPECT_THAT(ErrorOf({NpyOf(kValues, "(2, 2, 3)"), labels}, recipe), HasSubstr("not [2, 2, 2, 3]"));
}

TEST(KnownAnswerTest, SaysWhatDoesNotFit) {
  const std::string volume = NpyOf(kValues, "(2, 2, 3)");
  const std::string labels = NpyOf(kLabels, "(2, 2, 3)");
  EXPECT_EQ(ErrorOf({volume, labels}), "");
  EXPECT_THAT(
      ErrorOf({NpyOf(kValues, "(3, 2, 2)"), labels}),
      HasSubstr("known_answer.volume: known_answer.volume: the file's shape is [3, 2, 2], not [2, 2, 3]"));
  EXPECT_THAT(ErrorOf({volume.substr(0, 90), labels}), HasSubstr("known_answer.volume: NPY_SYNTAX(length)"));
  EXPECT_THAT(ErrorOf({labels, labels}), HasSubstr("known_answer.volume: stored values are int16 or uint16"));
  EXPECT_THAT(ErrorOf({volume, volume}), HasSubstr("known_answer.labels: label values are uint8 or uint16"));
  std::vector<std::uint8_t> other = kLabels;
  other[3] = 7;
  EXPECT_THAT(ErrorOf({volume, NpyOf(other, "(2, 2, 3)")}), HasSubstr("the value 7, which no label has"));
  EXPECT_THAT(ErrorOf({volume, NpyOf(std::vector<std::uint8_t>(12), "(2, 2, 3)")}),
              HasSubstr("has no label"));
}

std::string Compared(double tolerance, const std::vector<std::uint8_t>& labels) {
  const std::vector<std::string> files{NpyOf(kValues, "(2, 2, 3)"), NpyOf(kLabels, "(2, 2, 3)")};
  v1::Recipe recipe = LabelRecipe();
  recipe.mutable_known_answer()->set_differing_voxels(tolerance);
  const auto known = ReadKnownCase(recipe, files);
  EXPECT_TRUE(known.ok()) << known.status();
  const absl::Status status =
      CompareLabels(recipe.known_answer(), *known, std::as_bytes(std::span(labels)), 1);
  if (status.ok()) return "";
  EXPECT_EQ(base::ReasonOf(status), "KNOWN_ANSWER_DIFFERS");
  return base::ValueOf(status);
}

TEST(KnownAnswerTest, LabelsMayDifferByAPartOfTheLabelledVoxels) {
  std::vector<std::uint8_t> labels = kLabels;
  EXPECT_EQ(Compared(0, labels), "");
  labels[1] = 0;  // 1 of 10
  EXPECT_EQ(Compared(0, labels), "10 % of 10 voxels differ, 0 % may");
  EXPECT_EQ(Compared(0.099, labels), "10 % of 10 voxels differ, 9.9 % may");
  EXPECT_EQ(Compared(0.1, labels), "");
  labels[0] = 1;  // 2 of 11
  EXPECT_EQ(Compared(0.1, labels), "18.2 % of 11 voxels differ, 10 % may");
  EXPECT_EQ(Compared(0.1, std::vector<std::uint8_t>(12)), "100 % of 10 voxels differ, 10 % may");
  EXPECT_EQ(Compared(0.1, {1, 2}), "2 bytes");
}

// 1200 voxels, 1100 of label 1 and 100 of label 2, a tenth of which may differ.
std::string ComparedOfTwo(const std::function<void(std::vector<std::uint8_t>&)>& change) {
  v1::Recipe recipe = LabelRecipe();
  std::vector<std::uint8_t> labels(1200, 1);
  std::fill(labels.begin(), labels.begin() + 100, 2);
  const auto grid =
      volume::Geometry::Create({10, 12, 10}, {1, 1, 1}, {}, {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  KnownCase known{.geometry = *grid, .values = {}, .labels = {labels.begin(), labels.end()}};
  change(labels);
  const absl::Status status =
      CompareLabels(recipe.known_answer(), known, std::as_bytes(std::span(labels)), 1);
  return status.ok() ? "" : base::ValueOf(status);
}

TEST(KnownAnswerTest, NoLabelMayVanishOrAppear) {
  using Labels = std::vector<std::uint8_t>&;
  EXPECT_EQ(ComparedOfTwo([](Labels) {}), "");
  EXPECT_EQ(ComparedOfTwo([](Labels labels) { std::fill(labels.begin(), labels.begin() + 99, 1); }), "");
  EXPECT_EQ(ComparedOfTwo([](Labels labels) { std::fill(labels.begin(), labels.begin() + 100, 1); }),
            "label 2 is missing, 100 voxels");
  EXPECT_EQ(ComparedOfTwo([](Labels labels) { std::fill(labels.begin() + 200, labels.begin() + 210, 3); }),
            "");
  EXPECT_EQ(ComparedOfTwo([](Labels labels) { std::fill(labels.begin() + 200, labels.begin() + 211, 3); }),
            "label 3 is new, 11 voxels");
}

TEST(KnownAnswerTest, OnlyAnAnswerSpeaksAgainstAModel) {
  for (const char* code : {"KNOWN_ANSWER_DIFFERS", "NON_FINITE_OUTPUT", "NETWORK_FAILED",
                           "NETWORK_OUTPUT_SHAPE", "NETWORK_OUTPUT_TYPE", "MODEL_NOT_LOADED"}) {
    EXPECT_TRUE(IsWrongAnswer(code, "the network failed on a window")) << code;
  }
  for (const char* code :
       {"", "OUT_OF_MEMORY", "RUN_TOO_LARGE", "HOST_MEMORY", "CANCELLED", "WORKER_FAILED"}) {
    EXPECT_FALSE(IsWrongAnswer(code, "")) << code;
  }
  EXPECT_FALSE(IsWrongAnswer("NETWORK_FAILED", "the network failed: CUDA error: CUBLAS_STATUS_ALLOC_FAILED"));
}

v1::Finding BoxAt(double x_mm, double score, std::uint32_t label = 1) {
  v1::Finding finding;
  finding.set_label_value(label);
  finding.set_score(score);
  finding.mutable_centre_lps()->set_x_mm(x_mm);
  finding.mutable_centre_lps()->set_y_mm(2);
  finding.mutable_centre_lps()->set_z_mm(3);
  for (const double mm : {4, 5, 6}) finding.add_extent_mm(mm);
  return finding;
}

std::string ComparedBoxes(const std::vector<v1::Finding>& findings, const v1::Recipe& recipe = BoxRecipe()) {
  std::vector<const v1::Finding*> found;
  for (const v1::Finding& finding : findings) found.push_back(&finding);
  const absl::Status status = CompareBoxes(recipe, found);
  if (status.ok()) return "";
  EXPECT_EQ(base::ReasonOf(status), "KNOWN_ANSWER_DIFFERS");
  return base::ValueOf(status);
}

TEST(KnownAnswerTest, EachBoxNeedsItsOwn) {
  EXPECT_EQ(ComparedBoxes({BoxAt(10, 0.5), BoxAt(1, 0.9)}), "") << "the order does not matter";
  EXPECT_EQ(ComparedBoxes({BoxAt(10.09, 0.491), BoxAt(1, 0.9)}), "");
  EXPECT_EQ(ComparedBoxes({BoxAt(10.2, 0.5), BoxAt(1, 0.9)}),
            "1 of 2 boxes are missing, 1 are new; the first one's nearest is off by 0.2 mm, score 0; 0.1 mm, "
            "0.01 may");
  EXPECT_THAT(ComparedBoxes({BoxAt(10, 0.52), BoxAt(1, 0.9)}), HasSubstr("score 0.02"));
  EXPECT_EQ(ComparedBoxes({BoxAt(1, 0.9)}), "1 of 2 boxes are missing, 0 are new");
  EXPECT_EQ(ComparedBoxes({BoxAt(10, 0.5), BoxAt(1, 0.9), BoxAt(30, 0.4)}),
            "0 of 2 boxes are missing, 1 are new");
  EXPECT_EQ(ComparedBoxes({BoxAt(1, 0.9), BoxAt(1, 0.9)}),
            "1 of 2 boxes are missing, 1 are new; the first one's nearest is off by 9 mm, score 0.4; 0.1 mm, "
            "0.01 may");
  v1::Finding thin = BoxAt(1, 0.9);
  thin.set_extent_mm(2, 5.5);
  EXPECT_THAT(ComparedBoxes({thin, BoxAt(10, 0.5)}), HasSubstr("1 of 2"));
  v1::Finding broken = BoxAt(1, 0.9);
  broken.mutable_centre_lps()->set_x_mm(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(ComparedBoxes({broken, BoxAt(10, 0.5)}), HasSubstr("1 of 2"));
}

// Two known boxes at x 0 and 8, each 4 mm or 4.5 mm from what was found: only one assignment fits, and the
// nearest first is not it.
TEST(KnownAnswerTest, BoxesAreAssignedAsAWhole) {
  v1::Recipe recipe = BoxRecipe();
  v1::KnownAnswer& known = *recipe.mutable_known_answer();
  known.set_box_mm(5);
  known.mutable_boxes(0)->set_center_lps(0, 0);
  known.mutable_boxes(1)->set_center_lps(0, 8);
  known.mutable_boxes(1)->set_score(0.9);
  EXPECT_EQ(ComparedBoxes({BoxAt(4, 0.9), BoxAt(-4.5, 0.9)}, recipe), "");
  EXPECT_EQ(ComparedBoxes({BoxAt(-4.5, 0.9), BoxAt(4, 0.9)}, recipe), "");
  EXPECT_THAT(ComparedBoxes({BoxAt(4, 0.9), BoxAt(20, 0.9)}, recipe), HasSubstr("1 of 2"));
}

// One that may be missing does not keep its place from one that may not.
TEST(KnownAnswerTest, BoxesThatMayBeMissingComeAfterTheOthers) {
  v1::Recipe recipe = BoxRecipe();
  v1::KnownAnswer& known = *recipe.mutable_known_answer();
  known.mutable_boxes(1)->set_score(0.025);
  *known.add_boxes() = known.boxes(1);
  known.mutable_boxes(2)->set_score(0.034);
  EXPECT_EQ(ComparedBoxes({BoxAt(1, 0.9), BoxAt(10, 0.033)}, recipe), "");
  EXPECT_EQ(ComparedBoxes({BoxAt(1, 0.9), BoxAt(10, 0.026), BoxAt(10, 0.033)}, recipe), "");
}

// Where the recipe cuts the list, which of the last ones is in it is a matter of rounding.
TEST(KnownAnswerTest, TheLastBoxesOfACutListMayBeOthers) {
  v1::Recipe recipe = BoxRecipe();
  EXPECT_NE(ComparedBoxes({BoxAt(1, 0.9), BoxAt(30, 0.505)}, recipe), "");
  recipe.mutable_findings(0)->set_max_findings(2);
  EXPECT_EQ(ComparedBoxes({BoxAt(1, 0.9), BoxAt(30, 0.505)}, recipe), "");
  EXPECT_NE(ComparedBoxes({BoxAt(1, 0.9), BoxAt(30, 0.52)}, recipe), "") << "no rounding";
  EXPECT_NE(ComparedBoxes({BoxAt(1, 0.9)}, recipe), "") << "nothing was cut";
  EXPECT_NE(ComparedBoxes({BoxAt(40, 0.9), BoxAt(30, 0.9)}, recipe), "") << "another list";
  EXPECT_NE(ComparedBoxes({}, recipe), "");
}

TEST(KnownAnswerTest, ABoxAtTheLowestScoreMayBeThereOrNot) {
  // Boxes above 0.02 are candidates.
  ASSERT_EQ(BoxRecipe().decode(0).detect_boxes().score_above(), 0.02);
  EXPECT_EQ(ComparedBoxes({BoxAt(10, 0.5), BoxAt(1, 0.9), BoxAt(30, 0.029)}), "");
  EXPECT_NE(ComparedBoxes({BoxAt(10, 0.5), BoxAt(1, 0.9), BoxAt(30, 0.031)}), "");
}

}  // namespace
}  // namespace tomoserve::models
