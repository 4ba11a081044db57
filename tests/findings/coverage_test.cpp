#include <gmock/gmock.h>

#include <limits>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

ipc::v1::RunDone WithLung(double volume_ml, std::uint32_t first_k, std::uint32_t last_k) {
  ipc::v1::RunDone done;
  *done.mutable_lung() = Extent(0, volume_ml, first_k, last_k);
  return done;
}

v1::Recipe LabelRecipe(std::uint32_t label) {
  v1::Recipe recipe;
  recipe.mutable_coverage()->mutable_label_inside()->set_label(label);
  recipe.mutable_coverage()->mutable_label_inside()->set_min_volume_ml(1000);
  recipe.mutable_coverage()->mutable_label_inside()->set_margin_mm(5);
  return recipe;
}

TEST(CoverageTest, WholeLungIsCompleteAndSaysItsNumbers) {
  // 5 mm are two slices of 2.5 mm: exactly enough at both ends.
  const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(100), WithLung(5641.6, 2, 97), {});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_THAT(Codes(coverage.reasons()), ElementsAre("LABEL_VOLUME_ML", "MARGIN_LOW_MM", "MARGIN_HIGH_MM"));
  EXPECT_EQ(coverage.reasons(0).value(), "5641.6");
  EXPECT_EQ(coverage.reasons(2).value(), "5.0");
  EXPECT_THAT(coverage.extent_mm(), ElementsAre(300.0, 200.0, 250.0));
}

TEST(CoverageTest, OfSeveralTimePointsTheFirstThatIsNotCompleteSpeaks) {
  const auto target = [](const std::vector<ipc::v1::LabelExtent>& extents) {
    ipc::v1::RunDone done;
    for (const ipc::v1::LabelExtent& extent : extents) *done.add_labels() = extent;
    return JudgeCoverage(LabelRecipe(3), Grid(100), done, {});
  };
  const ipc::v1::LabelExtent whole = Extent(3, 2000, 10, 80);
  const ipc::v1::LabelExtent small = Extent(3, 900, 10, 80);
  const ipc::v1::LabelExtent cut = Extent(3, 2000, 0, 80);
  EXPECT_EQ(target({whole, whole}).target(), v1::COVERAGE_TARGET_COMPLETE);
  const v1::Coverage coverage = target({whole, small, cut});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(coverage.reasons()), ElementsAre("LABEL_VOLUME_ML"));
  EXPECT_EQ(target({cut, whole}).target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_EQ(target({}).target(), v1::COVERAGE_TARGET_UNKNOWN);
}

TEST(CoverageTest, MissingTopSlicesArePartialAndNeverNoFinding) {
  // The top 30 of 100 slices are gone: the lung runs into the last slice that is left.
  const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(70), WithLung(4000, 2, 69), {});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(coverage.reasons()), ElementsAre("MARGIN_HIGH_MM"));
  EXPECT_EQ(coverage.reasons(0).value(), "0.0");

  const v1::Flag flag = JudgeFlag(NoduleRecipe(), {}, coverage);
  EXPECT_EQ(flag.state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(Codes(flag.reasons()), ElementsAre("PARTIAL_COVERAGE", "MARGIN_HIGH_MM"));
}

TEST(CoverageTest, EveryCutNearerThanTheMarginIsPartial) {
  for (std::uint32_t last_k = 0; last_k < 100; ++last_k) {
    const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(100), WithLung(4000, 0, last_k), {});
    EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_PARTIAL);  // the first slice is always touched
  }
  for (std::uint32_t last_k = 10; last_k < 100; ++last_k) {
    const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(100), WithLung(4000, 2, last_k), {});
    EXPECT_EQ(coverage.target(), last_k <= 97 ? v1::COVERAGE_TARGET_COMPLETE : v1::COVERAGE_TARGET_PARTIAL);
  }
}

TEST(CoverageTest, ImplausiblySmallLungIsPartial) {
  const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(100), WithLung(999.9, 20, 80), {});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(coverage.reasons()), ElementsAre("LABEL_VOLUME_ML"));
}

TEST(CoverageTest, StructureCutOffInPlaneIsPartialHoweverBig) {
  ipc::v1::RunDone done = WithLung(4000, 20, 80);
  done.mutable_lung()->set_touches_in_plane_border(true);
  const v1::Coverage lung = JudgeCoverage(NoduleRecipe(), Grid(100), done, {});
  EXPECT_EQ(lung.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(lung.reasons()), ElementsAre("TOUCHES_FIELD_OF_VIEW"));
  EXPECT_EQ(JudgeFlag(NoduleRecipe(), {}, lung).state(), v1::FLAG_STATE_INCONCLUSIVE);

  *done.add_labels() = Extent(2, 2000, 10, 99);
  done.mutable_labels(0)->set_touches_in_plane_border(true);
  const v1::Coverage label = JudgeCoverage(LabelRecipe(2), Grid(100), done, {});
  EXPECT_EQ(label.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(label.reasons()), ElementsAre("MARGIN_HIGH_MM", "TOUCHES_FIELD_OF_VIEW"));
}

TEST(CoverageTest, AbsentLabelIsPartial) {
  ipc::v1::RunDone done;
  *done.add_labels() = Extent(2, 0, 0, 0);
  const v1::Coverage coverage = JudgeCoverage(LabelRecipe(2), Grid(100), done, {});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_PARTIAL);
  EXPECT_THAT(Codes(coverage.reasons()), ElementsAre("LABEL_ABSENT"));
}

TEST(CoverageTest, JudgesTheLabelThatTheRuleNames) {
  ipc::v1::RunDone done;
  *done.add_labels() = Extent(1, 2000, 0, 99);
  *done.add_labels() = Extent(2, 2000, 10, 90);
  EXPECT_EQ(JudgeCoverage(LabelRecipe(2), Grid(100), done, {}).target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_EQ(JudgeCoverage(LabelRecipe(1), Grid(100), done, {}).target(), v1::COVERAGE_TARGET_PARTIAL);
}

TEST(CoverageTest, UnmeasuredExtentIsUnknown) {
  EXPECT_EQ(JudgeCoverage(NoduleRecipe(), Grid(100), {}, {}).target(), v1::COVERAGE_TARGET_UNKNOWN);
  EXPECT_EQ(JudgeCoverage(LabelRecipe(2), Grid(100), {}, {}).target(), v1::COVERAGE_TARGET_UNKNOWN);
  EXPECT_EQ(JudgeCoverage(v1::Recipe(), Grid(100), {}, {}).target(), v1::COVERAGE_TARGET_UNKNOWN);
}

TEST(CoverageTest, ExtentThatDoesNotFitTheVolumeIsUnknown) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& done : {WithLung(4000, 2, 100), WithLung(4000, 50, 49), WithLung(4000, 2, 4294967295u)}) {
    EXPECT_EQ(JudgeCoverage(NoduleRecipe(), Grid(100), done, {}).target(), v1::COVERAGE_TARGET_UNKNOWN);
  }
  ipc::v1::RunDone done = WithLung(4000, 2, 90);
  done.mutable_lung()->set_volume_ml(nan);
  EXPECT_EQ(JudgeCoverage(NoduleRecipe(), Grid(100), done, {}).target(), v1::COVERAGE_TARGET_UNKNOWN);
}

TEST(CoverageTest, RuleMayDeclareTheExtentMeaningless) {
  v1::Recipe recipe;
  recipe.mutable_coverage()->mutable_not_needed()->set_because("every slice is its own question");
  const v1::Coverage coverage = JudgeCoverage(recipe, Grid(1), {}, {});
  EXPECT_EQ(coverage.target(), v1::COVERAGE_TARGET_COMPLETE);
  EXPECT_EQ(coverage.reasons(0).text(), "every slice is its own question");
}

TEST(CoverageTest, ListsEverySeries) {
  std::vector<v1::SeriesUse> series(2);
  series[0].set_series_instance_uid("1.2");
  series[0].set_analysed(true);
  series[1].set_series_instance_uid("1.3");
  series[1].add_reasons()->set_code("MODALITY");
  const v1::Coverage coverage = JudgeCoverage(NoduleRecipe(), Grid(100), WithLung(4000, 20, 80), series);
  ASSERT_EQ(coverage.series_size(), 2);
  EXPECT_TRUE(coverage.series(0).analysed());
  EXPECT_THAT(coverage.series(0).reasons(), IsEmpty());
  EXPECT_EQ(coverage.series(1).reasons(0).code(), "MODALITY");
}

}  // namespace
}  // namespace tomoserve::findings
