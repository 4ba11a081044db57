// One case for each thing that validation refuses: the change that is made to a valid recipe, and the field
// that the error must name.
#include "models/invalid_recipes.h"

namespace tomoserve::models {
namespace {

class InvalidGridRecipeTest : public ::testing::TestWithParam<Case> {};
class InvalidSliceRecipeTest : public ::testing::TestWithParam<Case> {};
class UnsupportedRecipeTest : public ::testing::TestWithParam<Case> {};

TEST_P(InvalidGridRecipeTest, NamesTheField) { ExpectRefused(kValidRecipe, GetParam(), "RECIPE_INVALID"); }
TEST_P(InvalidSliceRecipeTest, NamesTheField) { ExpectRefused(kSliceRecipe, GetParam(), "RECIPE_INVALID"); }
TEST_P(UnsupportedRecipeTest, NamesTheField) {
  ExpectRefused(kValidRecipe, GetParam(), "RECIPE_UNSUPPORTED");
}

v1::IntensityStep& Step(R r) { return *r.mutable_preparation()->mutable_intensity(0); }

INSTANTIATE_TEST_SUITE_P(
    CardAndInputs, InvalidGridRecipeTest,
    ::testing::Values(
        Case{"Title", [](R r) { r.set_title("  "); }, "title"},
        Case{"LongTitle", [](R r) { r.set_title(std::string(101, 'x')); }, "title"},
        Case{"LongText", [](R r) { r.mutable_card()->set_source(std::string(4097, 'x')); }, "card.source"},
        Case{"IntendedUse", [](R r) { r.mutable_card()->clear_intended_use(); }, "card.intended_use"},
        Case{"Status", [](R r) { r.mutable_card()->clear_regulatory_status(); }, "card.regulatory_status"},
        Case{"WhenLate", [](R r) { r.set_when_late(static_cast<v1::WhenLate>(9)); }, "when_late"},
        Case{"Author", [](R r) { r.mutable_card()->clear_author(); }, "card.author"},
        Case{"License", [](R r) { r.mutable_card()->clear_license(); }, "card.license"},
        Case{"Source", [](R r) { r.mutable_card()->clear_source(); }, "card.source"},
        Case{"Limitation", [](R r) { r.mutable_card()->add_limitations(""); }, "card.limitations[1]"},
        Case{"NoInput", [](R r) { r.clear_inputs(); }, "inputs"},
        Case{"InputName", [](R r) { r.mutable_inputs(0)->set_name("C T"); }, "inputs[0].name"},
        Case{"SameInputName", [](R r) { *r.add_inputs() = r.inputs(0); }, "inputs[1].name"},
        Case{"NoModality", [](R r) { r.mutable_inputs(0)->clear_modalities(); }, "inputs[0].modalities"},
        Case{"BadModality", [](R r) { r.mutable_inputs(0)->set_modalities(0, "ct"); },
             "inputs[0].modalities[0]"},
        Case{"SameModality", [](R r) { r.mutable_inputs(0)->add_modalities("CT"); },
             "inputs[0].modalities[1]"},
        Case{"ImageType", [](R r) { r.mutable_inputs(0)->add_required_image_types("A\\B"); },
             "inputs[0].required_image_types[1]"},
        Case{"ImageTypeBothWays", [](R r) { r.mutable_inputs(0)->add_required_image_types("LOCALIZER"); },
             "inputs[0].excluded_image_types"},
        Case{"RegionText", [](R r) { r.mutable_inputs(0)->add_region_texts(""); },
             "inputs[0].region_texts[0]"},
        Case{"Kernel", [](R r) { r.mutable_inputs(0)->add_preferred_kernels(""); },
             "inputs[0].preferred_kernels[0]"},
        Case{"ExcludedText", [](R r) { r.mutable_inputs(0)->add_excluded_texts(" "); },
             "inputs[0].excluded_texts[0]"},
        Case{"Units", [](R r) { r.mutable_inputs(0)->add_units("Bq/ml"); }, "inputs[0].units[0]"},
        Case{"PhaseText", [](R r) { r.mutable_inputs(0)->add_phase_texts(" "); }, "inputs[0].phase_texts[0]"},
        Case{"NoPlane", [](R r) { r.mutable_inputs(0)->add_planes(v1::PLANE_UNSPECIFIED); },
             "inputs[0].planes[0]"},
        Case{"SamePlane",
             [](R r) {
               r.mutable_inputs(0)->add_planes(v1::PLANE_AXIAL);
               r.mutable_inputs(0)->add_planes(v1::PLANE_AXIAL);
             },
             "inputs[0].planes[1]"},
        Case{"ThicknessRange", [](R r) { r.mutable_inputs(0)->mutable_slice_thickness_mm()->set_min(-1); },
             "inputs[0].slice_thickness_mm"},
        Case{"SpacingRange", [](R r) { r.mutable_inputs(0)->mutable_slice_spacing_mm()->set_min(4); },
             "inputs[0].slice_spacing_mm"},
        Case{"NegativeRange", [](R r) { r.mutable_inputs(0)->mutable_kvp()->set_min(-1); }, "inputs[0].kvp"},
        Case{"AgeRange", [](R r) { r.mutable_inputs(0)->mutable_age_years()->set_max(300); },
             "inputs[0].age_years"},
        Case{"FieldOfView", [](R r) { r.mutable_inputs(0)->mutable_field_of_view_mm()->set_min(-5); },
             "inputs[0].field_of_view_mm"},
        Case{"Slices", [](R r) { r.mutable_inputs(0)->mutable_slices()->set_min(4000); }, "inputs[0].slices"},
        Case{"LossyRatio", [](R r) { r.mutable_inputs(0)->set_max_lossy_ratio(-1); },
             "inputs[0].max_lossy_ratio"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Preparation, InvalidGridRecipeTest,
    ::testing::Values(
        Case{"TwoLetters", [](R r) { r.mutable_preparation()->set_orientation("RA"); },
             "preparation.orientation"},
        Case{"SamePairTwice", [](R r) { r.mutable_preparation()->set_orientation("RLS"); },
             "preparation.orientation"},
        Case{"LowerCase", [](R r) { r.mutable_preparation()->set_orientation("ras"); },
             "preparation.orientation"},
        Case{"FourLetters", [](R r) { r.mutable_preparation()->set_orientation("RASX"); },
             "preparation.orientation"},
        Case{"TwoSpacings",
             [](R r) { r.mutable_preparation()->mutable_spacing()->mutable_spacing_mm()->RemoveLast(); },
             "preparation.spacing.spacing_mm"},
        Case{"ZeroSpacing", [](R r) { r.mutable_preparation()->mutable_spacing()->set_spacing_mm(1, 0); },
             "preparation.spacing.spacing_mm"},
        Case{"SpacingRule", [](R r) { r.mutable_preparation()->mutable_spacing()->clear_rule(); },
             "preparation.spacing.rule"},
        Case{"Interpolation", [](R r) { r.mutable_preparation()->mutable_spacing()->clear_interpolation(); },
             "preparation.spacing.interpolation"},
        Case{"EmptyStep", [](R r) { r.mutable_preparation()->add_intensity(); }, "preparation.intensity[1]"},
        Case{"ScaleRangeFrom", [](R r) { Step(r).mutable_scale_range()->set_from_max(-57); },
             "preparation.intensity[0].scale_range.from_max"},
        Case{"ScaleRangeTo", [](R r) { Step(r).mutable_scale_range()->set_to_max(0); },
             "preparation.intensity[0].scale_range.to_max"},
        Case{"Clip", [](R r) { Step(r).mutable_clip()->set_min(1); }, "preparation.intensity[0].clip.max"},
        Case{"Affine", [](R r) { Step(r).mutable_affine()->set_shift(1); },
             "preparation.intensity[0].affine.scale"},
        Case{"ZScoreMeanOnly", [](R r) { Step(r).mutable_z_score()->set_mean(1); },
             "preparation.intensity[0].z_score"},
        Case{"ZScoreStd",
             [](R r) {
               Step(r).mutable_z_score()->set_mean(1);
               Step(r).mutable_z_score()->set_std(0);
             },
             "preparation.intensity[0].z_score.std"},
        Case{"MinMax", [](R r) { Step(r).mutable_scale_min_max(); },
             "preparation.intensity[0].scale_min_max.to_max"},
        Case{"Percentiles", [](R r) { Step(r).mutable_scale_percentiles()->set_upper(101); },
             "preparation.intensity[0].scale_percentiles.upper"},
        Case{"OrderWithoutSpacing",
             [](R r) {
               r.mutable_preparation()->clear_spacing();
               r.mutable_preparation()->set_intensity_before_spacing(true);
             },
             "preparation.intensity_before_spacing"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    WindowsAndNetwork, InvalidGridRecipeTest,
    ::testing::Values(
        Case{"Layout", [](R r) { r.mutable_windows()->clear_layout(); }, "windows.layout"},
        Case{"NoSize", [](R r) { r.mutable_windows()->clear_size(); }, "windows.size"},
        Case{"WholeAxisOfNnunet",
             [](R r) {
               r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
               r.mutable_windows()->set_size(0, 0);
             },
             "windows.size"},
        Case{"OverlapOfOneWindow",
             [](R r) {
               for (int i = 0; i < 3; ++i) r.mutable_windows()->set_size(i, 0);
               r.mutable_windows()->clear_blend();
             },
             "windows.overlap"},
        Case{"BlendOfOneWindow",
             [](R r) {
               for (int i = 0; i < 3; ++i) r.mutable_windows()->set_size(i, 0);
               r.mutable_windows()->set_overlap(0);
             },
             "windows.blend"},
        Case{"TwoDimensionsSeeAllSlices",
             [](R r) {
               r.mutable_windows()->set_size(2, 0);
               r.mutable_network()->set_spatial_dims(2);
             },
             "network.spatial_dims"},
        Case{"HugeSize", [](R r) { r.mutable_windows()->set_size(0, 4000000000U); }, "windows.size"},
        Case{"TooManyVoxels",
             [](R r) {
               for (int i = 0; i < 3; ++i) r.mutable_windows()->set_size(i, 1024);
             },
             "windows.size"},
        Case{"OverlapOne", [](R r) { r.mutable_windows()->set_overlap(1); }, "windows.overlap"},
        Case{"NegativeOverlap", [](R r) { r.mutable_windows()->set_overlap(-0.1); }, "windows.overlap"},
        Case{"LowResolutionAxisOfMonai",
             [](R r) {
               r.mutable_preparation()->mutable_spacing()->set_low_resolution_axis(
                   v1::LOW_RESOLUTION_AXIS_BY_RATIO);
             },
             "preparation.spacing.low_resolution_axis"},
        Case{"HolesOfTheWholeVolume",
             [](R r) { r.mutable_preparation()->add_intensity()->mutable_z_score()->set_fill_holes(true); },
             "preparation.intensity[1].z_score.fill_holes"},
        Case{"NnunetOverlap",
             [](R r) {
               r.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_NNUNET);
               r.mutable_windows()->set_overlap(0);
             },
             "windows.overlap"},
        Case{"Sigma", [](R r) { r.mutable_windows()->set_sigma_scale(2); }, "windows.sigma_scale"},
        Case{"SigmaWhoseSquareIsZero", [](R r) { r.mutable_windows()->set_sigma_scale(1e-200); },
             "windows.sigma_scale"},
        Case{"SigmaOfNothing", [](R r) { r.mutable_windows()->set_sigma_scale(9.9e-4); },
             "windows.sigma_scale"},
        Case{"SigmaWithoutGaussian",
             [](R r) {
               r.mutable_windows()->set_sigma_scale(0.125);
               r.mutable_windows()->set_blend(v1::BLEND_CONSTANT);
             },
             "windows.sigma_scale"},
        Case{"PaddingValue",
             [](R r) {
               r.mutable_windows()->set_padding_mode(v1::PADDING_MODE_REPLICATE);
               r.mutable_windows()->set_padding_value(1);
             },
             "windows.padding_value"},
        Case{"MultipleOfOnGrid", [](R r) { r.mutable_windows()->set_xy_multiple_of(8); },
             "windows.xy_multiple_of"},
        Case{"ContextOnGrid", [](R r) { r.mutable_windows()->mutable_context(); }, "windows.context"},
        Case{"NoFile", [](R r) { r.mutable_network()->clear_files(); }, "network.files"},
        Case{"FileElsewhere", [](R r) { r.mutable_network()->set_files(0, "../model.ts"); },
             "network.files[0]"},
        Case{"FileType", [](R r) { r.mutable_network()->set_files(0, "model.pt"); }, "network.files[0]"},
        Case{"HiddenFile", [](R r) { r.mutable_network()->set_files(0, ".model.ts"); }, "network.files[0]"},
        Case{"SameFile", [](R r) { r.mutable_network()->add_files("model.ts"); }, "network.files[1]"},
        Case{"TooManyFiles",
             [](R r) {
               for (int i = 0; i < 16; ++i) r.mutable_network()->add_files(std::to_string(i) + ".ts");
             },
             "network.files"},
        Case{"Dimensions", [](R r) { r.mutable_network()->set_spatial_dims(4); }, "network.spatial_dims"},
        Case{"TwoDimensionsOnGrid", [](R r) { r.mutable_network()->set_spatial_dims(2); },
             "network.spatial_dims"},
        Case{"Axes", [](R r) { r.mutable_network()->clear_axes(); }, "network.axes"},
        Case{"NoInputChannel", [](R r) { r.mutable_network()->clear_input_channels(); },
             "network.input_channels"},
        Case{"ChannelsWithoutInput", [](R r) { r.mutable_network()->set_input_channels(3); },
             "network.input_channels"},
        Case{"NoOutputChannel", [](R r) { r.mutable_network()->clear_output_channels(); },
             "network.output_channels"},
        Case{"ManyOutputChannels", [](R r) { r.mutable_network()->set_output_channels(5000); },
             "network.output_channels"},
        Case{"MirrorAxis", [](R r) { r.mutable_network()->add_mirror_axes(3); }, "network.mirror_axes[0]"},
        Case{"MirrorAxisTwice",
             [](R r) {
               r.mutable_network()->add_mirror_axes(1);
               r.mutable_network()->add_mirror_axes(1);
             },
             "network.mirror_axes[1]"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Slices, InvalidSliceRecipeTest,
    ::testing::Values(
        Case{"Size", [](R r) { r.mutable_windows()->add_size(8); }, "windows.size"},
        Case{"Overlap", [](R r) { r.mutable_windows()->set_overlap(0.5); }, "windows.overlap"},
        Case{"Blend", [](R r) { r.mutable_windows()->set_blend(v1::BLEND_GAUSSIAN); }, "windows.blend"},
        Case{"Sigma", [](R r) { r.mutable_windows()->set_sigma_scale(0.1); }, "windows.sigma_scale"},
        Case{"Multiple", [](R r) { r.mutable_windows()->set_xy_multiple_of(513); }, "windows.xy_multiple_of"},
        Case{"Before", [](R r) { r.mutable_windows()->mutable_context()->set_before(257); },
             "windows.context.before"},
        Case{"After", [](R r) { r.mutable_windows()->mutable_context()->set_after(257); },
             "windows.context.after"},
        Case{"ContextIn2D", [](R r) { r.mutable_network()->set_spatial_dims(2); }, "windows.context"},
        Case{"MirrorAlongSlices", [](R r) { r.mutable_network()->add_mirror_axes(2); },
             "network.mirror_axes[0]"},
        Case{"SoftmaxOfOne", [](R r) { r.mutable_decode(0)->set_activation(v1::ACTIVATION_SOFTMAX); },
             "decode[0].activation"},
        Case{"ArgMaxOfOne", [](R r) { r.mutable_decode(1)->mutable_arg_max(); }, "decode[1].arg_max"},
        Case{"ThresholdOfSigmoid",
             [](R r) {
               r.mutable_decode(0)->set_activation(v1::ACTIVATION_SIGMOID);
               r.mutable_decode(1)->mutable_threshold()->set_above(1);
             },
             "decode[1].threshold.above"},
        Case{"ThresholdBeforeActivation", [](R r) { r.mutable_decode()->SwapElements(0, 1); },
             "decode[0].threshold"},
        Case{"ThresholdLabels", [](R r) { r.mutable_network()->set_output_channels(2); }, "labels"},
        Case{"PaintOrderChannel", [](R r) { r.mutable_decode(1)->mutable_threshold()->add_paint_order(1); },
             "decode[1].threshold.paint_order"},
        Case{"LinearLabelsWithGaps",
             [](R r) {
               r.mutable_decode(2)->mutable_to_volume_grid()->set_interpolation(v1::INTERPOLATION_LINEAR);
             },
             "decode[2].to_volume_grid.interpolation"},
        Case{"CoverageLabel", [](R r) { r.mutable_coverage()->mutable_label_inside()->set_label(1); },
             "coverage.label_inside.label"},
        Case{"CoverageVolume",
             [](R r) { r.mutable_coverage()->mutable_label_inside()->set_min_volume_ml(0); },
             "coverage.label_inside.min_volume_ml"},
        Case{"CoverageMargin", [](R r) { r.mutable_coverage()->mutable_label_inside()->set_margin_mm(0); },
             "coverage.label_inside.margin_mm"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    NotYet, UnsupportedRecipeTest,
    ::testing::Values(Case{
        "CubicWithMonaisRule",
        [](R r) { r.mutable_preparation()->mutable_spacing()->set_interpolation(v1::INTERPOLATION_CUBIC); },
        "preparation.spacing.interpolation"}),
    CaseName);

TEST(UnsupportedOrderTest, WhatIsWrongComesBeforeWhatIsNotSupported) {
  v1::Recipe recipe = Valid(kValidRecipe);
  recipe.mutable_preparation()->mutable_spacing()->set_interpolation(v1::INTERPOLATION_CUBIC);
  recipe.clear_coverage();
  EXPECT_EQ(base::ReasonOf(ValidateRecipe(recipe)), "RECIPE_INVALID");
  EXPECT_EQ(base::ValueOf(ValidateRecipe(recipe)), "coverage");
}

}  // namespace
}  // namespace tomoserve::models
