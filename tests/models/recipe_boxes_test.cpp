// Recipes of detectors: one case for each thing that validation refuses.
#include <array>
#include <cstdint>

#include "models/invalid_recipes.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::models {
namespace {

std::string LungNoduleRecipe() {
  return ReadText(SourceFolder() / "tests/models/bundles/lung_nodule_ct_detection.textproto");
}

v1::DetectBoxes& Boxes(R r) { return *r.mutable_decode(0)->mutable_detect_boxes(); }

class InvalidBoxesTest : public ::testing::TestWithParam<Case> {};

TEST_P(InvalidBoxesTest, NamesTheField) {
  ExpectRefused(LungNoduleRecipe().c_str(), GetParam(), "RECIPE_INVALID");
}

INSTANTIATE_TEST_SUITE_P(
    Boxes, InvalidBoxesTest,
    ::testing::Values(
        Case{"OtherSteps", [](R r) { r.add_decode()->mutable_arg_max(); }, "decode[0].detect_boxes"},
        Case{"NoLevel", [](R r) { Boxes(r).clear_levels(); }, "decode[0].detect_boxes.levels"},
        Case{"Stride", [](R r) { Boxes(r).mutable_levels(1)->set_stride(2, 0); },
             "decode[0].detect_boxes.levels[1].stride"},
        Case{"Scale", [](R r) { Boxes(r).mutable_levels(0)->set_anchor_scale(1e6); },
             "decode[0].detect_boxes.levels[0].anchor_scale"},
        Case{"NoAnchor", [](R r) { Boxes(r).clear_anchors(); }, "decode[0].detect_boxes.anchors"},
        Case{"AnchorSize", [](R r) { Boxes(r).mutable_anchors(2)->set_size(1, -3); },
             "decode[0].detect_boxes.anchors[2].size"},
        Case{"Centre", [](R r) { Boxes(r).clear_anchor_centre(); }, "decode[0].detect_boxes.anchor_centre"},
        Case{"Score", [](R r) { Boxes(r).set_score_above(1); }, "decode[0].detect_boxes.score_above"},
        Case{"Candidates", [](R r) { Boxes(r).set_candidates_per_level(100'000); },
             "decode[0].detect_boxes.candidates_per_level"},
        Case{"Overlap", [](R r) { Boxes(r).set_suppress_iou_above(1.5); },
             "decode[0].detect_boxes.suppress_iou_above"},
        Case{"MaxBoxes", [](R r) { Boxes(r).set_max_boxes(0); }, "decode[0].detect_boxes.max_boxes"},
        Case{"WindowIsNoWholeNumberOfCells", [](R r) { r.mutable_windows()->set_size(0, 504); },
             "windows.size"},
        Case{"PaddingIsNoWholeNumberOfCells", [](R r) { Boxes(r).set_pad_to_multiple_of(2, 4); },
             "decode[0].detect_boxes.pad_to_multiple_of"},
        Case{"NoPadding", [](R r) { Boxes(r).clear_pad_to_multiple_of(); },
             "decode[0].detect_boxes.pad_to_multiple_of"},
        Case{"WholeVolumesLargerThanAWindow",
             [](R r) { Boxes(r).set_whole_below_voxels(512 * 512 * 192 + 1); },
             "decode[0].detect_boxes.whole_below_voxels"},
        Case{"Classes", [](R r) { r.mutable_network()->set_output_channels(2); }, "labels"},
        Case{"Axes", [](R r) { r.mutable_network()->set_axes(v1::TENSOR_AXES_ZYX); }, "network.axes"},
        Case{"Mirror", [](R r) { r.mutable_network()->add_mirror_axes(1); }, "network.mirror_axes"},
        Case{"Blend", [](R r) { r.mutable_windows()->set_blend(v1::BLEND_GAUSSIAN); }, "windows.blend"},
        Case{"PaddingMode", [](R r) { r.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE); },
             "windows.padding_mode"},
        Case{"Plausibility",
             [](R r) {
               r.add_plausibility()->set_label(1);
               r.mutable_plausibility(0)->mutable_volume_ml()->set_max(2);
             },
             "plausibility[0]"},
        Case{"WholeLabel", [](R r) { r.mutable_findings(0)->set_each_component(false); },
             "findings[0].each_component"},
        Case{"MeanScore", [](R r) { r.mutable_findings(0)->set_score(v1::SCORE_RULE_MEAN); },
             "findings[0].score"},
        Case{"CoverageOfALabel", [](R r) { r.mutable_coverage()->mutable_label_inside()->set_label(1); },
             "coverage.label_inside"}),
    CaseName);

TEST(DetectorWindowTest, AWholeVolumeCountsAsItIsPadded) {
  const auto recipe = ParseRecipe(LungNoduleRecipe());
  ASSERT_TRUE(recipe.ok()) << recipe.status();
  const double warm_up = 512.0 * 512 * 192;
  EXPECT_EQ(WindowSize(*recipe, {300, 290, 97}), (std::array<std::uint64_t, 3>{304, 304, 104}));
  EXPECT_DOUBLE_EQ(WarmUpRatio(*recipe, {300, 290, 97}), 304 * 304 * 104 / warm_up);
  EXPECT_DOUBLE_EQ(WarmUpRatio(*recipe, {5000, 5000, 1}), 5008.0 * 5008 * 8 / warm_up);
  EXPECT_TRUE(SeesWhole(*recipe, {511, 512, 192}));
  EXPECT_FALSE(SeesWhole(*recipe, {512, 512, 192})) << "as many voxels are cut";
  EXPECT_EQ(WarmUpRatio(*recipe, {600, 512, 300}), 1.0);
}

}  // namespace
}  // namespace tomoserve::models
