// Recipes of several inputs, of time series and of cascades: what is accepted, what is refused by its field.
#include "models/invalid_recipes.h"

namespace tomoserve::models {
namespace {

std::string LungNoduleRecipe() {
  return ReadText(SourceFolder() / "tests/models/bundles/lung_nodule_ct_detection.textproto");
}

v1::Input& AddInput(R r) {
  *r.add_inputs() = r.inputs(0);
  v1::Input& input = *r.mutable_inputs(r.inputs_size() - 1);
  input.set_name("other_" + std::to_string(r.inputs_size()));
  r.mutable_network()->set_input_channels(static_cast<std::uint32_t>(r.inputs_size()));
  return input;
}

void Time(R r) {
  r.mutable_inputs(0)->set_every_time_point(true);
  r.mutable_coverage()->mutable_label_inside()->set_label(1);
  r.mutable_coverage()->mutable_label_inside()->set_min_volume_ml(1);
  r.mutable_coverage()->mutable_label_inside()->set_margin_mm(1);
}

// A region that the crop uses.
v1::Region& Region(R r) {
  r.mutable_preparation()->mutable_crop()->set_to_region(true);
  r.mutable_region()->set_model("lobes");
  r.mutable_region()->add_labels(1);
  r.mutable_region()->add_labels(65535);
  return *r.mutable_region();
}

// A region that a step after the others uses.
void Kept(R r) {
  Region(r);
  r.mutable_preparation()->clear_crop();
  r.add_decode()->mutable_keep_in_region()->set_whole_components(true);
}

void ExpectAccepted(const char* text, const std::function<void(R)>& change) {
  v1::Recipe recipe = Valid(text);
  change(recipe);
  EXPECT_TRUE(ValidateRecipe(recipe).ok()) << ValidateRecipe(recipe);
}

TEST(SeveralInputsTest, AreAcceptedEachWithItsOwnSteps) {
  ExpectAccepted(kValidRecipe, [](R r) {
    AddInput(r).set_modalities(0, "PT");
    r.mutable_inputs(1)->add_intensity()->mutable_z_score()->set_nonzero(true);
    r.mutable_inputs(1)->mutable_intensity(0)->mutable_z_score()->set_fill_holes(true);
    AddInput(r);
  });
}

TEST(SeveralInputsTest, AreAcceptedSliceBySlice) {
  ExpectAccepted(kSliceRecipe, [](R r) {
    AddInput(r);
    r.mutable_network()->set_spatial_dims(2);
    r.mutable_windows()->clear_context();
  });
  ExpectAccepted(kSliceRecipe, [](R r) { AddInput(r); });
}

TEST(SeveralInputsTest, StepsOfAnInputAreStepsToOrder) {
  ExpectAccepted(kValidRecipe, [](R r) {
    *r.mutable_inputs(0)->mutable_intensity() = r.preparation().intensity();
    r.mutable_preparation()->clear_intensity();
    r.mutable_preparation()->set_intensity_before_spacing(true);
  });
}

TEST(EveryTimePointTest, IsAccepted) { ExpectAccepted(kValidRecipe, Time); }

TEST(RegionTest, IsAcceptedWhereSomethingUsesIt) {
  ExpectAccepted(kValidRecipe, [](R r) { Region(r); });
  ExpectAccepted(kValidRecipe, Kept);
  ExpectAccepted(kValidRecipe, [](R r) {
    Kept(r);
    r.mutable_preparation()->mutable_crop()->set_to_region(true);
    r.mutable_preparation()->mutable_crop()->set_margin_voxels(3);
    AddInput(r);
  });
  ExpectAccepted(LungNoduleRecipe().c_str(), [](R r) { Region(r); });
}

class InvalidInputsTest : public ::testing::TestWithParam<Case> {};
TEST_P(InvalidInputsTest, NamesTheField) { ExpectRefused(kValidRecipe, GetParam(), "RECIPE_INVALID"); }

INSTANTIATE_TEST_SUITE_P(
    Inputs, InvalidInputsTest,
    ::testing::Values(Case{"ChannelsOfOneInput",
                           [](R r) {
                             AddInput(r);
                             r.mutable_network()->set_input_channels(1);
                           },
                           "network.input_channels"},
                      Case{"EmptyStep", [](R r) { AddInput(r).add_intensity(); }, "inputs[1].intensity[0]"},
                      Case{"Clip", [](R r) { AddInput(r).add_intensity()->mutable_clip()->set_min(1); },
                           "inputs[1].intensity[0].clip.max"},
                      Case{"HolesOfTheWholeVolume",
                           [](R r) {
                             v1::Input& input = AddInput(r);
                             *input.mutable_intensity() = r.preparation().intensity();
                             input.add_intensity()->mutable_z_score()->set_fill_holes(true);
                           },
                           "inputs[1].intensity[1].z_score.fill_holes"},
                      Case{"LungOfAnMrThatComesFirst",
                           [](R r) {
                             AddInput(r);
                             r.mutable_inputs(0)->set_modalities(0, "MR");
                           },
                           "coverage.lung_inside"}),
    CaseName);

INSTANTIATE_TEST_SUITE_P(
    Region, InvalidInputsTest,
    ::testing::Values(Case{"CropToNoRegion",
                           [](R r) { r.mutable_preparation()->mutable_crop()->set_to_region(true); },
                           "preparation.crop.to_region"},
                      Case{"CropToRegionAndBackground",
                           [](R r) {
                             Region(r);
                             r.mutable_preparation()->mutable_crop()->set_background(-1024);
                           },
                           "preparation.crop.background"},
                      Case{"KeptInNoRegion",
                           [](R r) {
                             Kept(r);
                             r.clear_region();
                           },
                           "decode[4].keep_in_region"},
                      Case{"KeptBeforeLabels",
                           [](R r) {
                             Kept(r);
                             r.mutable_decode()->SwapElements(4, 3);
                             r.mutable_decode()->SwapElements(3, 2);
                           },
                           "decode[2].keep_in_region"},
                      Case{"KeptOnThePreparedGrid",
                           [](R r) {
                             Kept(r);
                             r.mutable_decode(1)->mutable_arg_max();
                             r.mutable_decode(2)->mutable_keep_in_region();
                             r.mutable_decode(4)->mutable_to_volume_grid()->set_interpolation(
                                 v1::INTERPOLATION_NEAREST);
                           },
                           "decode[2].keep_in_region"},
                      Case{"NoModel", [](R r) { Region(r).clear_model(); }, "region.model"},
                      Case{"ModelElsewhere", [](R r) { Region(r).set_model("../lobes"); }, "region.model"},
                      Case{"ModelWithVersion", [](R r) { Region(r).set_model("lobes@1"); }, "region.model"},
                      Case{"NoLabel", [](R r) { Region(r).clear_labels(); }, "region.labels"},
                      Case{"Background", [](R r) { Region(r).set_labels(1, 0); }, "region.labels[1]"},
                      Case{"HugeLabel", [](R r) { Region(r).set_labels(1, 65536); }, "region.labels[1]"},
                      Case{"SameLabel", [](R r) { Region(r).set_labels(1, 1); }, "region.labels[1]"},
                      Case{"NothingUsesIt",
                           [](R r) {
                             Region(r);
                             r.mutable_preparation()->mutable_crop()->set_to_region(false);
                           },
                           "region"}),
    CaseName);

TEST(RegionTest, OfADetectorIsForItsCropOnly) {
  const std::string detector = LungNoduleRecipe();
  ExpectRefused(detector.c_str(),
                {"Unused",
                 [](R r) {
                   Region(r);
                   r.mutable_preparation()->clear_crop();
                 },
                 "region"},
                "RECIPE_INVALID");
  ExpectRefused(detector.c_str(), {"Kept", Kept, "decode[0].detect_boxes"}, "RECIPE_INVALID");
}

class UnsupportedTimeTest : public ::testing::TestWithParam<Case> {};
TEST_P(UnsupportedTimeTest, NamesTheField) { ExpectRefused(kValidRecipe, GetParam(), "RECIPE_UNSUPPORTED"); }

INSTANTIATE_TEST_SUITE_P(Time, UnsupportedTimeTest,
                         ::testing::Values(Case{"Lung",
                                                [](R r) { r.mutable_inputs(0)->set_every_time_point(true); },
                                                "inputs[0].every_time_point"},
                                           Case{"SeveralInputs",
                                                [](R r) {
                                                  Time(r);
                                                  r.mutable_inputs(0)->set_every_time_point(false);
                                                  AddInput(r).set_every_time_point(true);
                                                },
                                                "inputs[1].every_time_point"},
                                           Case{"Region",
                                                [](R r) {
                                                  Time(r);
                                                  Region(r);
                                                },
                                                "inputs[0].every_time_point"}),
                         CaseName);

TEST(EveryTimePointTest, OfADetectorIsNotSupported) {
  ExpectRefused(LungNoduleRecipe().c_str(),
                {"Detector",
                 [](R r) {
                   r.mutable_coverage()->mutable_not_needed()->set_because("Boxes.");
                   r.mutable_inputs(0)->set_every_time_point(true);
                 },
                 "inputs[0].every_time_point"},
                "RECIPE_UNSUPPORTED");
}

}  // namespace
}  // namespace tomoserve::models
