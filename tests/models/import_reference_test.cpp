// The golden cases: what MONAI and nnU-Net exported must become recipes with exactly their numbers.
#include <gmock/gmock.h>

#include "models/import_fixtures.h"

namespace tomoserve::models::importer {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string CaseFile(const char* name, const char* file = "model.ts") {
  return (tomoserve::testing::Reference() / name / file).string();
}

#define TS_CASE(name)                                       \
  TS_SKIP_WITHOUT(tomoserve::testing::Reference() / name);  \
  const ImportedModel model = MustImport({CaseFile(name)}); \
  const v1::Recipe& recipe = model.recipe;                  \
  ASSERT_GT(recipe.decode_size(), 0)

std::vector<v1::DecodeStep::StepCase> Steps(const v1::Recipe& recipe) {
  std::vector<v1::DecodeStep::StepCase> steps;
  for (const v1::DecodeStep& step : recipe.decode()) steps.push_back(step.step_case());
  return steps;
}

TEST(ImportReferenceTest, SpleenLike) {
  TS_CASE("a_spleen_like");
  EXPECT_EQ(model.name, "a_spleen_like");
  EXPECT_EQ(recipe.preparation().orientation(), "RAS");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(1.5, 1.5, 2));
  EXPECT_EQ(recipe.preparation().spacing().rule(), v1::SPACING_RULE_MONAI);
  EXPECT_EQ(recipe.preparation().spacing().interpolation(), v1::INTERPOLATION_LINEAR);
  ASSERT_EQ(recipe.preparation().intensity_size(), 1);
  EXPECT_EQ(recipe.preparation().intensity(0).scale_range().from_min(), -57);
  EXPECT_EQ(recipe.preparation().intensity(0).scale_range().from_max(), 164);
  EXPECT_EQ(recipe.preparation().intensity(0).scale_range().to_max(), 1);
  EXPECT_TRUE(recipe.preparation().intensity(0).scale_range().clip());
  EXPECT_EQ(recipe.windows().layout(), v1::WINDOW_LAYOUT_MONAI);
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(96, 96, 96));
  EXPECT_EQ(recipe.windows().overlap(), 0.5);
  EXPECT_NE(recipe.windows().blend(), v1::BLEND_GAUSSIAN);
  EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_XYZ);
  EXPECT_EQ(recipe.network().output_channels(), 2U);
  EXPECT_THAT(Steps(recipe), ElementsAre(v1::DecodeStep::kActivation, v1::DecodeStep::kToVolumeGrid,
                                         v1::DecodeStep::kArgMax));
  EXPECT_EQ(recipe.decode(0).activation(), v1::ACTIVATION_SOFTMAX);
  EXPECT_EQ(recipe.decode(1).to_volume_grid().interpolation(), v1::INTERPOLATION_LINEAR);
  ASSERT_EQ(recipe.labels_size(), 1);
  EXPECT_EQ(recipe.labels(0).name(), "spleen");
  EXPECT_EQ(recipe.labels(0).type().value(), "78961009");
  EXPECT_THAT(recipe.inputs(0).modalities(), ElementsAre("CT"));
  EXPECT_EQ(recipe.card().regulatory_status(), v1::REGULATORY_STATUS_RESEARCH);
  EXPECT_EQ(recipe.card().author(), "MONAI team");
}

TEST(ImportReferenceTest, WholeBodyLike) {
  TS_CASE("b_wholebody_like");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(3, 3, 3));
  ASSERT_EQ(recipe.preparation().intensity_size(), 2);
  EXPECT_TRUE(recipe.preparation().intensity(0).z_score().nonzero());
  EXPECT_FALSE(recipe.preparation().intensity(0).z_score().has_mean());
  EXPECT_EQ(recipe.preparation().intensity(1).scale_min_max().to_min(), -1);
  EXPECT_EQ(recipe.preparation().intensity(1).scale_min_max().to_max(), 1);
  EXPECT_EQ(recipe.windows().overlap(), 0.25);
  EXPECT_EQ(recipe.windows().blend(), v1::BLEND_GAUSSIAN);
  EXPECT_EQ(recipe.windows().padding_mode(), v1::PADDING_MODE_REPLICATE);
  // The metadata still name the 105 channels of the bundle that the case was made from.
  EXPECT_EQ(recipe.network().output_channels(), 25U);
  EXPECT_EQ(recipe.labels_size(), 24);
  EXPECT_EQ(recipe.labels(1).name(), "kidney_right");
  EXPECT_THAT(Steps(recipe), ElementsAre(v1::DecodeStep::kActivation, v1::DecodeStep::kArgMax,
                                         v1::DecodeStep::kToVolumeGrid));
  EXPECT_EQ(recipe.decode(2).to_volume_grid().interpolation(), v1::INTERPOLATION_NEAREST);
}

void ExpectLungNodules(const v1::Recipe& recipe) {
  EXPECT_EQ(recipe.preparation().orientation(), "RAS");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(0.703125, 0.703125, 1.25));
  EXPECT_EQ(recipe.preparation().intensity(0).scale_range().from_min(), -1024);
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(512, 512, 192));
  EXPECT_EQ(recipe.windows().overlap(), 0.25);
  ASSERT_EQ(recipe.decode_size(), 1);
  const v1::DetectBoxes& boxes = recipe.decode(0).detect_boxes();
  ASSERT_EQ(boxes.levels_size(), 3);
  EXPECT_THAT(Numbers(boxes.levels(0).stride()), ElementsAre(4, 4, 2));
  EXPECT_THAT(Numbers(boxes.levels(1).stride()), ElementsAre(8, 8, 4));
  EXPECT_THAT(Numbers(boxes.levels(2).stride()), ElementsAre(16, 16, 8));
  EXPECT_EQ(boxes.levels(2).anchor_scale(), 4);
  ASSERT_EQ(boxes.anchors_size(), 3);
  EXPECT_THAT(Numbers(boxes.anchors(1).size()), ElementsAre(8, 6, 5));
  EXPECT_EQ(boxes.score_above(), 0.02);
  EXPECT_EQ(boxes.candidates_per_level(), 1000U);
  EXPECT_EQ(boxes.suppress_iou_above(), 0.22);
  EXPECT_EQ(boxes.max_boxes(), 300U);
  EXPECT_THAT(Numbers(boxes.pad_to_multiple_of()), ElementsAre(16, 16, 8));
  EXPECT_EQ(boxes.whole_below_voxels(), 512U * 512 * 192);
  EXPECT_EQ(boxes.anchor_centre(), v1::ANCHOR_CENTRE_CELL_START);
  EXPECT_EQ(recipe.network().output_channels(), 1U);
  EXPECT_EQ(recipe.labels(0).name(), "nodule");
  EXPECT_TRUE(recipe.findings(0).each_component());
  EXPECT_EQ(recipe.findings(0).max_findings(), 300U) << "none of the boxes is dropped";
}

TEST(ImportReferenceTest, LungNodules) {
  TS_CASE("c1_lung_nodule_sliding");
  ExpectLungNodules(recipe);
  ExpectLungNodules(MustImport({CaseFile("c1_lung_nodule_sliding", "model_list_output.ts")}).recipe);
}

TEST(ImportReferenceTest, AnchorsFollowTheStatedMonaiVersion) {
  TS_SKIP_WITHOUT(tomoserve::testing::Reference() / "c1_lung_nodule_sliding");
  const std::map<std::string, v1::AnchorCentre> centres = {{"1.5.2", v1::ANCHOR_CENTRE_CELL_START},
                                                           {"1.6", v1::ANCHOR_CENTRE_CELL_MIDDLE},
                                                           {"1.6.1", v1::ANCHOR_CENTRE_CELL_MIDDLE},
                                                           {"1.10.0", v1::ANCHOR_CENTRE_CELL_MIDDLE}};
  for (const auto& [version, centre] : centres) {
    ImportOptions options;
    options.monai_version = version;
    const ImportedModel model = MustImport({CaseFile("c1_lung_nodule_sliding")}, options);
    EXPECT_EQ(model.recipe.decode(0).detect_boxes().anchor_centre(), centre) << version;
  }
}

void ExpectNnunet(const v1::Recipe& recipe) {
  EXPECT_TRUE(recipe.preparation().orientation().empty());
  EXPECT_TRUE(recipe.preparation().has_crop());
  EXPECT_EQ(recipe.preparation().crop().background(), 0);
  EXPECT_TRUE(recipe.preparation().intensity_before_spacing());
  const v1::Spacing& spacing = recipe.preparation().spacing();
  EXPECT_EQ(spacing.rule(), v1::SPACING_RULE_NNUNET);
  EXPECT_EQ(spacing.interpolation(), v1::INTERPOLATION_CUBIC);
  EXPECT_EQ(spacing.low_resolution_axis(), v1::LOW_RESOLUTION_AXIS_BY_RATIO);
  EXPECT_EQ(recipe.windows().layout(), v1::WINDOW_LAYOUT_NNUNET);
  EXPECT_EQ(recipe.windows().overlap(), 0.5);
  EXPECT_EQ(recipe.windows().blend(), v1::BLEND_GAUSSIAN);
  EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_ZYX);
}

TEST(ImportReferenceTest, NnunetFullResolution) {
  TS_CASE("d1_nnunet_fullres");
  ExpectNnunet(recipe);
  EXPECT_EQ(model.name, "dataset901_gold_3d_fullres");
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(2.1, 2.1, 1.6));
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(96, 96, 32));
  ASSERT_EQ(recipe.preparation().intensity_size(), 2);
  EXPECT_EQ(recipe.preparation().intensity(0).clip().min(), -136);
  EXPECT_EQ(recipe.preparation().intensity(0).clip().max(), 704);
  EXPECT_EQ(recipe.preparation().intensity(1).z_score().mean(), 43.65239334106445);
  EXPECT_EQ(recipe.preparation().intensity(1).z_score().std(), 116.66036987304688);
  // Tensor axes 0 and 1 are z and y.
  EXPECT_THAT(Numbers(recipe.network().mirror_axes()), ElementsAre(1, 2));
  EXPECT_EQ(recipe.network().output_channels(), 4U);
  EXPECT_THAT(Steps(recipe), ElementsAre(v1::DecodeStep::kActivation, v1::DecodeStep::kToVolumeGrid,
                                         v1::DecodeStep::kArgMax));
  EXPECT_EQ(recipe.decode(0).activation(), v1::ACTIVATION_NONE);
  EXPECT_EQ(recipe.decode(1).to_volume_grid().interpolation(), v1::INTERPOLATION_LINEAR);
  EXPECT_EQ(recipe.labels(2).name(), "bone");

  ImportOptions options;
  options.mirroring = false;
  EXPECT_THAT(MustImport({CaseFile("d1_nnunet_fullres")}, options).recipe.network().mirror_axes(), IsEmpty());
}

TEST(ImportReferenceTest, NnunetRegions) {
  TS_CASE("d2_nnunet_regions");
  ExpectNnunet(recipe);
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(2.4, 2.4, 2.6));
  EXPECT_THAT(Numbers(recipe.network().mirror_axes()), ElementsAre(0, 1, 2));
  EXPECT_EQ(recipe.network().output_channels(), 3U);
  EXPECT_THAT(Steps(recipe), ElementsAre(v1::DecodeStep::kToVolumeGrid, v1::DecodeStep::kActivation,
                                         v1::DecodeStep::kThreshold));
  EXPECT_EQ(recipe.decode(1).activation(), v1::ACTIVATION_SIGMOID);
  EXPECT_EQ(recipe.decode(2).threshold().above(), 0.5);
  EXPECT_THAT(recipe.decode(2).threshold().paint_order(), IsEmpty()) << "heads paint in their order";
  EXPECT_EQ(recipe.labels(0).name(), "body");
  EXPECT_EQ(recipe.labels(0).value(), 1U);
  EXPECT_EQ(recipe.labels(2).name(), "bone");
}

TEST(ImportReferenceTest, NnunetAnisotropic) {
  TS_CASE("d3_nnunet_aniso");
  ExpectNnunet(recipe);
  EXPECT_THAT(Numbers(recipe.preparation().spacing().spacing_mm()), ElementsAre(2.4, 2.4, 4));
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(96, 96, 24));
  EXPECT_THAT(Numbers(recipe.network().mirror_axes()), ElementsAre(1));
}

TEST(ImportReferenceTest, SkullStripWhole) {
  TS_CASE("e_t1_skullstrip");
  EXPECT_EQ(recipe.preparation().orientation(), "LIA");
  EXPECT_FALSE(recipe.preparation().has_spacing());
  const v1::ScalePercentiles& percentiles = recipe.preparation().intensity(0).scale_percentiles();
  EXPECT_EQ(percentiles.lower(), 2);
  EXPECT_EQ(percentiles.upper(), 98);
  EXPECT_TRUE(percentiles.clip());
  EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(0, 0, 0)) << "the whole volume";
  EXPECT_THAT(Steps(recipe), ElementsAre(v1::DecodeStep::kActivation, v1::DecodeStep::kArgMax,
                                         v1::DecodeStep::kToVolumeGrid));
  EXPECT_EQ(recipe.decode(0).activation(), v1::ACTIVATION_NONE);
  EXPECT_EQ(recipe.network().output_channels(), 2U);
  EXPECT_EQ(recipe.labels(0).name(), "brain");
  EXPECT_EQ(recipe.labels(0).type().value(), "12738006");
  // Nothing in the bundle says the modality.
  EXPECT_THAT(recipe.inputs(0).modalities(), ElementsAre("CT", "MR", "PT"));
  EXPECT_EQ(model.notes.size(), 1U);
}

TEST(ImportReferenceTest, SlicesOfCtAndOfTime) {
  for (const auto& [name, size] : {std::pair("f1_slices_ct", 256U), {"f2_slices_mr_time", 64U}}) {
    TS_CASE(name);
    EXPECT_TRUE(recipe.preparation().orientation().empty());
    EXPECT_EQ(recipe.preparation().intensity(0).scale_min_max().to_max(), 1);
    EXPECT_THAT(Numbers(recipe.windows().size()), ElementsAre(size, size, 1));
    EXPECT_EQ(recipe.windows().overlap(), 0.25);
    EXPECT_EQ(recipe.network().spatial_dims(), 2U);
    EXPECT_EQ(recipe.network().axes(), v1::TENSOR_AXES_XYZ) << "the network sees [column, row]";
    EXPECT_TRUE(recipe.inputs(0).every_time_point());
    EXPECT_THAT(model.notes, Contains(HasSubstr("each is analysed")));
    EXPECT_EQ(recipe.labels(1).name(), "myocardium");
  }
}

}  // namespace
}  // namespace tomoserve::models::importer
