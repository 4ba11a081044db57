#include "tomoserve/series/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "series/indication.h"
#include "series/selections.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tomoserve::v1::Input;
using tomoserve::v1::Recipe;

// The outcome of one series under one input, as text: "chosen", or "state: reasons".
std::string Outcome(const std::function<void(Input&)>& input, const std::function<void(Header&)>& header = {},
                    std::uint32_t slices = 5, double spacing = 2.5) {
  const StudySeries study = BuildStudy(SeriesOf(1, slices, spacing, header));
  const Selection selection = Select(CtRecipe(input), study);
  std::string limitations;
  for (const std::string& limitation : selection.limitations) limitations += " " + limitation;
  if (selection.volume()) return "chosen" + limitations;
  EXPECT_EQ(selection.uses.size(), 1u);
  EXPECT_EQ(selection.uses[0].reasons_size(), 1);
  return (selection.inconclusive ? "inconclusive: " : "not applicable: ") + Text(selection.reasons);
}

TEST(SelectionTest, ChoosesTheOnlyFit) {
  const StudySeries study = BuildStudy(SeriesOf(1, 5, 2.5));
  const Selection selection = Select(CtRecipe(), study);
  ASSERT_EQ(selection.volume(), &study.series[0].volumes[0]);
  EXPECT_THAT(selection.series, ElementsAre(&study.series[0]));
  EXPECT_EQ(selection.channels, 1u);
  EXPECT_EQ(selection.time_points(), 1u);
  ASSERT_THAT(selection.uses, SizeIs(1));
  EXPECT_TRUE(selection.uses[0].analysed());
  EXPECT_THAT(selection.reasons, IsEmpty());
  EXPECT_FALSE(selection.inconclusive);
}

TEST(SelectionTest, Modality) {
  EXPECT_EQ(Outcome([](Input& i) { i.set_modalities(0, "MR"); }), "not applicable: MODALITY(CT)");
}

TEST(SelectionTest, ImageTypes) {
  const auto axial = [](Header& h) {
    h.add_image_type("ORIGINAL");
    h.add_image_type("AXIAL");
  };
  EXPECT_EQ(Outcome([](Input& i) { i.add_required_image_types("AXIAL"); }, axial), "chosen");
  EXPECT_EQ(Outcome([](Input& i) { i.add_required_image_types("DERIVED"); }, axial),
            "not applicable: IMAGE_TYPE(DERIVED)");
  EXPECT_EQ(Outcome([](Input& i) { i.add_excluded_image_types("AXIAL"); }, axial),
            "not applicable: IMAGE_TYPE(AXIAL)");
  EXPECT_EQ(Outcome([](Input& i) { i.add_excluded_image_types("MPR"); }, axial), "chosen");
  EXPECT_EQ(Outcome([](Input& i) { i.add_required_image_types("AXIAL"); }),
            "not applicable: TAG_MISSING(image_type)");
}

TEST(SelectionTest, Region) {
  const auto chest = [](Input& i) { i.add_region_texts("chest"); };
  EXPECT_EQ(Outcome(chest, [](Header& h) { h.set_body_part("CHEST"); }), "chosen");
  EXPECT_EQ(Outcome(chest, [](Header& h) { h.set_protocol_name("Routine Chest 5mm"); }), "chosen");
  EXPECT_EQ(Outcome(chest, [](Header& h) { h.set_series_description("CHEST W/O"); }), "chosen");
  EXPECT_EQ(Outcome(chest, [](Header& h) { h.set_body_part("HEAD"); }), "not applicable: REGION(HEAD)");
  // Free text in the body part is not repeated.
  EXPECT_EQ(Outcome(chest, [](Header& h) { h.set_body_part("Mr. Smith 1960"); }), "not applicable: REGION()");
  EXPECT_EQ(Outcome(chest), "not applicable: TAG_MISSING(region)");
}

// The thinnest series would be taken.
TEST(SelectionTest, ASeriesWithAnExcludedTextLeavesTheNextOne) {
  const auto named = [](const char* description) {
    return [description](Header& h) { h.set_series_description(description); };
  };
  const StudySeries study =
      BuildStudy(SeriesOf(1, 9, 1, named("Thorax MIP 10/1")) + SeriesOf(2, 5, 2.5, named("Thorax 2.5")));
  const auto uses = [&](const std::function<void(Input&)>& change) {
    return Uses(Select(CtRecipe(change), study));
  };
  EXPECT_THAT(uses([](Input&) {}), ElementsAre("analysed", "OUTRANKED(SLICE_SPACING)"));
  EXPECT_THAT(uses([](Input& i) { i.add_excluded_texts("mip"); }),
              ElementsAre("EXCLUDED_TEXT(mip)", "analysed"));
}

TEST(SelectionTest, SliceSpacing) {
  const auto thin = [](Input& i) { i.mutable_slice_spacing_mm()->set_max(3); };
  EXPECT_EQ(Outcome(thin, {}, 5, 3), "chosen");
  EXPECT_EQ(Outcome(thin, {}, 5, 5), "not applicable: SLICE_SPACING(5)");
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_slice_spacing_mm()->set_min(3); }, {}, 5, 1),
            "not applicable: SLICE_SPACING(1)");
}

TEST(SelectionTest, Kvp) {
  const auto range = [](Input& i) {
    i.mutable_kvp()->set_min(100);
    i.mutable_kvp()->set_max(140);
  };
  EXPECT_EQ(Outcome(range, [](Header& h) { h.set_kvp(120); }), "chosen");
  EXPECT_EQ(Outcome(range, [](Header& h) { h.set_kvp(80); }), "not applicable: KVP(80)");
  EXPECT_EQ(Outcome(range), "not applicable: TAG_MISSING(kvp)");
  EXPECT_EQ(Outcome([&](Input& i) {
              range(i);
              i.set_when_missing(tomoserve::v1::WHEN_MISSING_WARN);
            }),
            "chosen TAG_MISSING(kvp)");
}

TEST(SelectionTest, Age) {
  const auto adult = [](Input& i) { i.mutable_age_years()->set_min(18); };
  EXPECT_EQ(Outcome(adult, [](Header& h) { h.set_patient_age("063Y"); }), "chosen");
  EXPECT_EQ(Outcome(adult, [](Header& h) { h.set_patient_age("018Y"); }), "chosen");
  // The reason does not repeat the age.
  EXPECT_EQ(Outcome(adult, [](Header& h) { h.set_patient_age("017Y"); }), "not applicable: AGE()");
  EXPECT_EQ(Outcome(adult, [](Header& h) { h.set_patient_age("200M"); }), "not applicable: AGE()");
  EXPECT_EQ(Outcome(adult,
                    [](Header& h) {
                      h.set_patient_birth_date("20000615");
                      h.set_study_date("20180615");
                    }),
            "chosen");
  EXPECT_EQ(Outcome(adult,
                    [](Header& h) {
                      h.set_patient_birth_date("20000615");
                      h.set_study_date("20180614");
                    }),
            "not applicable: AGE()");
  EXPECT_EQ(Outcome(adult), "not applicable: TAG_MISSING(age)");
}

TEST(SelectionTest, AgeOfText) {
  const auto age = [](const char* text) {
    Header header;
    header.set_patient_age(text);
    return AgeYears(header);
  };
  EXPECT_EQ(age("063Y"), 63);
  EXPECT_EQ(age("018M"), 1.5);
  EXPECT_NEAR(*age("026W"), 0.4983, 1e-4);
  EXPECT_NEAR(*age("010D"), 0.0274, 1e-4);
  for (const char* wrong : {"", "Y", "63", "63X", "-63Y", "1063Y", "6 3Y"}) EXPECT_FALSE(age(wrong)) << wrong;
  Header header;
  header.set_patient_birth_date("20200101");
  header.set_study_date("20190101");
  EXPECT_FALSE(AgeYears(header));
  header.set_study_date("20209901");
  EXPECT_FALSE(AgeYears(header));
}

TEST(SelectionTest, FieldOfViewIsTheSmallerExtent) {
  // 6 columns of 0.75 mm, 4 rows of 0.5 mm.
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_field_of_view_mm()->set_max(2); }), "chosen");
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_field_of_view_mm()->set_min(2.5); }),
            "not applicable: FIELD_OF_VIEW(2)");
}

TEST(SelectionTest, Slices) {
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_slices()->set_min(5); }), "chosen");
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_slices()->set_min(6); }), "not applicable: SLICES(5)");
  EXPECT_EQ(Outcome([](Input& i) { i.mutable_slices()->set_max(4); }), "not applicable: SLICES(5)");
}

TEST(SelectionTest, LossyImages) {
  const auto lossy = [](double ratio) {
    return [ratio](Header& h) {
      h.set_lossy(true);
      h.set_lossy_ratio(ratio);
    };
  };
  EXPECT_EQ(Outcome({}, lossy(8)), "not applicable: LOSSY(8)");
  EXPECT_EQ(Outcome([](Input& i) { i.set_max_lossy_ratio(10); }, lossy(8)), "chosen LOSSY(8)");
  EXPECT_EQ(Outcome([](Input& i) { i.set_max_lossy_ratio(10); }, lossy(12)), "not applicable: LOSSY(12)");
  EXPECT_EQ(Outcome([](Input& i) { i.set_max_lossy_ratio(10); }, lossy(0)),
            "not applicable: TAG_MISSING(lossy_ratio)");
}

TEST(SelectionTest, ValuesThatAreNoHounsfieldUnits) {
  EXPECT_EQ(Outcome({}, [](Header& h) { h.set_rescale_type("HU"); }), "chosen");
  EXPECT_EQ(Outcome({}, [](Header& h) { h.set_rescale_type("MGML"); }), "not applicable: NOT_HU(MGML)");
  EXPECT_EQ(Outcome({},
                    [](Header& h) {
                      h.clear_rescale_slope();
                      h.clear_rescale_intercept();
                    }),
            "chosen NO_RESCALE");
}

TEST(SelectionTest, FittingButRejectedGeometryIsInconclusive) {
  std::vector<Instance> stack = SeriesOf(1, 6, 2.5);
  stack.erase(stack.begin() + 2);
  const StudySeries study = BuildStudy(stack);
  const Selection selection = Select(CtRecipe(), study);
  EXPECT_EQ(selection.volume(), nullptr);
  EXPECT_TRUE(selection.inconclusive);
  EXPECT_EQ(Text(selection.reasons), "MISSING_SLICES(1)");
  ASSERT_THAT(selection.uses, SizeIs(1));
  EXPECT_FALSE(selection.uses[0].analysed());
  ASSERT_EQ(selection.uses[0].reasons_size(), 1);
  EXPECT_EQ(selection.uses[0].reasons(0).code(), "MISSING_SLICES");
  // Not meant for the recipe anyway: not applicable.
  const Selection other = Select(CtRecipe([](Input& i) { i.mutable_slices()->set_min(50); }), study);
  EXPECT_FALSE(other.inconclusive);
  EXPECT_EQ(Text(other.reasons), "SLICES(5)");
}

// Remarks stand on the volume too; they are not why it is rejected.
TEST(SelectionTest, TheReasonOfARejectedSeriesIsWhatRejectsIt) {
  const auto reasons = [](const std::vector<Instance>& stack, std::uint32_t synthetic = 0) {
    const StudySeries study = BuildStudy(stack);
    const Selection selection = Select(CtRecipe([&](Input& i) {
                                         i.set_max_synthetic_slices(synthetic);
                                         i.set_max_lossy_ratio(20);
                                       }),
                                       study);
    EXPECT_TRUE(selection.inconclusive);
    return Uses(selection).at(0) + " of " + Text(selection.reasons);
  };
  const auto tilted = [](Header& h) { h.set_gantry_tilt_deg(12); };
  std::vector<Instance> stack = SeriesOf(1, 6, 2.5, tilted);
  SetPosition(stack[2], 10.5, 20, 5);
  EXPECT_EQ(reasons(stack), "SHIFTED_SLICES(1) of SHIFTED_SLICES(1)");
  EXPECT_THAT(Codes(BuildStudy(stack).series[0].volumes[0]),
              ElementsAre("SHIFTED_SLICES", "GANTRY_TILT_UNCONFIRMED"));

  stack = SeriesOf(1, 6, 2.5);
  stack[1].header.set_rescale_slope(0);
  stack.erase(stack.begin() + 3);  // a gap that the recipe allows
  EXPECT_EQ(reasons(stack, 1), "RESCALE_INVALID(1) of RESCALE_INVALID(1)");

  stack = SeriesOf(1, 6, 2.5, [&](Header& h) {
    tilted(h);
    h.set_lossy(true);
    h.set_lossy_ratio(10);
  });
  stack[4].header.clear_rescale_slope();
  EXPECT_EQ(reasons(stack), "MIXED_RESCALE(1) of MIXED_RESCALE(1)");

  // More voxels than a grid may have.
  stack = SeriesOf(1, 260, 2.5, [](Header& h) {
    h.set_rows(65535);
    h.set_columns(65535);
    h.set_lossy(true);
    h.set_lossy_ratio(10);
    h.clear_rescale_slope();
    h.clear_rescale_intercept();
  });
  EXPECT_THAT(Codes(BuildStudy(stack).series[0].volumes[0]),
              ElementsAre("GEOMETRY_INVALID", "NO_RESCALE", "LOSSY"));
  EXPECT_EQ(reasons(stack), "GEOMETRY_INVALID(size_ijk) of GEOMETRY_INVALID(size_ijk)");

  // One of two acquisitions: what tells them apart is no reason.
  stack = SeriesOf(1, 5, 2.5, [](Header& h) { h.set_acquisition_number(1); });
  const std::vector<Instance> second = SeriesOf(1, 5, 2.5, [](Header& h) { h.set_acquisition_number(2); });
  for (Instance instance : second) {
    Rename(instance, instance.index + 500);
    instance.header.set_rescale_slope(0);
    stack.push_back(instance);
  }
  for (std::size_t n = 0; n < 5; ++n) stack[n].header.set_rescale_slope(0);
  EXPECT_EQ(reasons(stack), "RESCALE_INVALID(5) of RESCALE_INVALID(5)");

  // Too many slices are missing for the recipe; the corrected tilt is not to blame.
  stack = SeriesOf(1, 8, 2.5);
  for (Instance& slice : stack) {
    const double z = slice.header.image_position(2);
    SetPosition(slice, 10, 20 + z * 0.1, z);
  }
  stack.erase(stack.begin() + 3);
  EXPECT_EQ(reasons(stack), "MISSING_SLICES(1) of MISSING_SLICES(1)");
}

TEST(SelectionTest, ARecipeSaysHowManySlicesMayBeInterpolated) {
  std::vector<Instance> stack = SeriesOf(1, 9, 2.5);
  stack.erase(stack.begin() + 5, stack.begin() + 7);
  const StudySeries study = BuildStudy(stack);
  const auto with = [&](std::uint32_t slices) {
    return Select(CtRecipe([&](Input& i) { i.set_max_synthetic_slices(slices); }), study);
  };
  EXPECT_TRUE(with(0).inconclusive);
  EXPECT_EQ(Text(with(1).reasons), "MISSING_SLICES(2)");
  const Selection selection = with(2);
  ASSERT_NE(selection.volume(), nullptr);
  EXPECT_THAT(selection.limitations, ElementsAre("MISSING_SLICES(2)"));
  EXPECT_EQ(selection.uses[0].reasons(0).code(), "MISSING_SLICES");
  // Slices that nobody acquired do not count as slices, and a complete volume comes first, however thick.
  EXPECT_EQ(Select(CtRecipe([](Input& i) {
                     i.set_max_synthetic_slices(2);
                     i.mutable_slices()->set_min(8);
                   }),
                   study)
                .volume(),
            nullptr);
  const StudySeries two = BuildStudy(stack + SeriesOf(2, 9, 3));
  const Selection complete = Select(CtRecipe([](Input& i) { i.set_max_synthetic_slices(2); }), two);
  EXPECT_THAT(complete.series, ElementsAre(&two.series[1]));
  EXPECT_EQ(complete.uses[0].reasons(0).value(), "SYNTHETIC_SLICES");
}

TEST(SelectionTest, ACorrectedTiltIsUsedAndNamed) {
  std::vector<Instance> stack = SeriesOf(1, 5, 2.5);
  for (std::size_t n = 0; n < stack.size(); ++n) {
    stack[n].header.set_image_position(1, 0.4 * static_cast<double>(n));
  }
  const StudySeries study = BuildStudy(stack);
  const Selection selection = Select(CtRecipe(), study);
  ASSERT_NE(selection.volume(), nullptr);
  EXPECT_THAT(selection.limitations, ElementsAre("GANTRY_TILT(9.09)"));
  const StudySeries two = BuildStudy(stack + SeriesOf(2, 5, 5));
  EXPECT_EQ(Select(CtRecipe(), two).uses[0].reasons(0).value(), "RESAMPLED");
}

TEST(SelectionTest, RanksByKernelThenSpacingThenSlicesThenOrder) {
  const auto kernel = [](const char* name) { return [name](Header& h) { h.set_convolution_kernel(name); }; };
  const StudySeries study = BuildStudy(SeriesOf(1, 5, 5, kernel("B30f")) + SeriesOf(2, 5, 1, kernel("B70f")) +
                                       SeriesOf(3, 5, 2.5, kernel("B70f\\3")) +
                                       SeriesOf(4, 9, 1, kernel("B70f")) + SeriesOf(5, 9, 1, kernel("B70f")));
  const auto chosen = [&](const Recipe& recipe) {
    return Select(recipe, study).series.front() - study.series.data() + 1;
  };
  EXPECT_EQ(chosen(CtRecipe()), 4);
  EXPECT_EQ(chosen(CtRecipe([](Input& i) { i.add_preferred_kernels("b30F"); })), 1);
  EXPECT_EQ(chosen(CtRecipe([](Input& i) { i.add_preferred_kernels("3"); })), 3);

  const Selection selection = Select(CtRecipe(), study);
  ASSERT_THAT(selection.uses, SizeIs(5));
  std::vector<std::string> why;
  for (const auto& use : selection.uses) {
    why.push_back(use.analysed() ? "analysed" : use.reasons(0).code() + "(" + use.reasons(0).value() + ")");
  }
  EXPECT_THAT(why, ElementsAre("OUTRANKED(SLICE_SPACING)", "OUTRANKED(SLICES)", "OUTRANKED(SLICE_SPACING)",
                               "analysed", "OUTRANKED(ORDER)"));
}

TEST(SelectionTest, EverySeriesHasOneReasonAndTheNearestMissSpeaksFirst) {
  std::vector<Instance> study = SeriesOf(1, 5, 2.5, [](Header& h) {
    h.set_modality("SR");
    h.set_kind(ipc::v1::OBJECT_KIND_OTHER);
  });
  study = study + SeriesOf(2, 5, 8);
  study = study + SeriesOf(3, 2, 1, [](Header& h) { h.add_image_type("LOCALIZER"); });
  const StudySeries built = BuildStudy(study);
  const Selection selection =
      Select(CtRecipe([](Input& i) { i.mutable_slice_spacing_mm()->set_max(3); }), built);
  EXPECT_EQ(selection.volume(), nullptr);
  EXPECT_FALSE(selection.inconclusive);
  EXPECT_EQ(Text(selection.reasons), "SLICE_SPACING(8) NO_VOLUME(LOCALIZER) MODALITY(SR)");
  ASSERT_THAT(selection.uses, SizeIs(3));
  for (const auto& use : selection.uses) EXPECT_EQ(use.reasons_size(), 1);
}

TEST(SelectionTest, AnEmptyStudyHasNoVolume) {
  EXPECT_EQ(Text(Select(CtRecipe(), BuildStudy({})).reasons), "NO_VOLUME()");
}

}  // namespace
}  // namespace tomoserve::series
