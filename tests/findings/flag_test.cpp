#include <gmock/gmock.h>

#include <limits>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::StartsWith;

TEST(FlagTest, HighestMatchingRuleCounts) {
  const v1::Coverage complete = Covered(v1::COVERAGE_TARGET_COMPLETE);
  const v1::Flag urgent = JudgeFlag(NoduleRecipe(), {Nodule(6.5, 0.9), Nodule(8.0, 0.6)}, complete);
  EXPECT_EQ(urgent.state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(urgent.level(), v1::FLAG_LEVEL_URGENT);
  EXPECT_THAT(urgent.reasons(), IsEmpty());
  EXPECT_EQ(JudgeFlag(NoduleRecipe(), {Nodule(7.9, 0.5)}, complete).level(), v1::FLAG_LEVEL_ATTENTION);
}

TEST(FlagTest, FindingThatFulfilsNoRuleIsNoFinding) {
  const v1::Coverage complete = Covered(v1::COVERAGE_TARGET_COMPLETE);
  v1::Finding other = Nodule(30, 1);
  other.set_label_value(2);
  for (const auto& findings :
       std::vector<std::vector<v1::Finding>>{{}, {Nodule(5.9, 1)}, {Nodule(7, 0.49)}, {other}}) {
    const v1::Flag flag = JudgeFlag(NoduleRecipe(), findings, complete);
    EXPECT_EQ(flag.state(), v1::FLAG_STATE_NO_FINDING);
    EXPECT_EQ(flag.level(), v1::FLAG_LEVEL_UNSPECIFIED);
  }
}

TEST(FlagTest, TheMeanDiameterInTheAxialPlaneCountsWhereARuleNamesIt) {
  v1::Recipe recipe = NoduleRecipe();
  recipe.clear_flags();
  v1::FlagRule& rule = *recipe.add_flags();
  rule.set_label(1);
  rule.set_level(v1::FLAG_LEVEL_ATTENTION);
  rule.mutable_mean_diameter_mm()->set_min(6);
  rule.mutable_score()->set_min(0.5);
  const auto state = [&](double mean_mm, double score) {
    v1::Finding finding = Nodule(30, score);  // long, whatever its mean diameter
    finding.mutable_mean_diameter_mm()->set_value(mean_mm);
    return JudgeFlag(recipe, {finding}, Covered(v1::COVERAGE_TARGET_COMPLETE)).state();
  };
  EXPECT_EQ(state(6, 0.5), v1::FLAG_STATE_FLAGGED) << "ends are included";
  EXPECT_EQ(state(5.99, 0.9), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(state(7, 0.49), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(state(std::numeric_limits<double>::quiet_NaN(), 0.9), v1::FLAG_STATE_INCONCLUSIVE);
  rule.mutable_mean_diameter_mm()->set_max(8);
  EXPECT_EQ(state(8, 0.9), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(state(8.01, 0.9), v1::FLAG_STATE_NO_FINDING);
}

TEST(FlagTest, NothingButCompleteCoverageGivesNoFinding) {
  for (const auto target :
       {v1::COVERAGE_TARGET_PARTIAL, v1::COVERAGE_TARGET_UNKNOWN, v1::COVERAGE_TARGET_UNSPECIFIED}) {
    const v1::Flag flag = JudgeFlag(NoduleRecipe(), {}, Covered(target));
    EXPECT_EQ(flag.state(), v1::FLAG_STATE_INCONCLUSIVE);
    EXPECT_THAT(Codes(flag.reasons()), ElementsAre("PARTIAL_COVERAGE", "MARGIN_HIGH_MM"));
  }
}

TEST(FlagTest, FlaggedWithPartialCoverageSaysSo) {
  const v1::Flag flag = JudgeFlag(NoduleRecipe(), {Nodule(9, 1)}, Covered(v1::COVERAGE_TARGET_PARTIAL));
  EXPECT_EQ(flag.state(), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(flag.level(), v1::FLAG_LEVEL_URGENT);
  EXPECT_THAT(Codes(flag.reasons()), ElementsAre("PARTIAL_COVERAGE", "MARGIN_HIGH_MM"));
  EXPECT_EQ(flag.reasons(0).value(), "PARTIAL");
  EXPECT_EQ(
      JudgeFlag(NoduleRecipe(), {Nodule(9, 1)}, Covered(v1::COVERAGE_TARGET_UNKNOWN)).reasons(0).value(),
      "UNKNOWN");
}

TEST(FlagTest, MeasurementThatIsNoNumberIsInconclusive) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const v1::Flag flag = JudgeFlag(NoduleRecipe(), {Nodule(nan, 0.9)}, Covered(v1::COVERAGE_TARGET_COMPLETE));
  EXPECT_EQ(flag.state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(Codes(flag.reasons()), ElementsAre("MEASUREMENT_INVALID"));
}

TEST(TrackingUidTest, DependsOnPlaceTimeAndLabelOnly) {
  const v1::Finding finding = Nodule(8, 0.9);
  const std::string uid = TrackingUid("1.2.3", "digest", finding);
  EXPECT_THAT(uid, StartsWith("2.25."));
  EXPECT_LE(uid.size(), 44u);

  v1::Finding same = Nodule(4, 0.1);
  same.mutable_centre_lps()->set_x_mm(10.02);  // the same tenth of a millimetre
  EXPECT_EQ(TrackingUid("1.2.3", "digest", same), uid);

  v1::Finding moved = finding;
  moved.mutable_centre_lps()->set_z_mm(30.1);
  EXPECT_NE(TrackingUid("1.2.3", "digest", moved), uid);
  v1::Finding other_label = finding;
  other_label.set_label_value(2);
  EXPECT_NE(TrackingUid("1.2.3", "digest", other_label), uid);
  v1::Finding later = finding;
  later.set_time_point(1);
  EXPECT_NE(TrackingUid("1.2.3", "digest", later), uid);
  EXPECT_NE(TrackingUid("1.2.4", "digest", finding), uid);
  EXPECT_NE(TrackingUid("1.2.3", "other", finding), uid);
}

TEST(TrackingUidTest, SurvivesCoordinatesThatAreNoNumbers) {
  v1::Finding finding = Nodule(8, 0.9);
  finding.mutable_centre_lps()->set_x_mm(std::numeric_limits<double>::quiet_NaN());
  finding.mutable_centre_lps()->set_y_mm(std::numeric_limits<double>::infinity());
  EXPECT_EQ(TrackingUid("1.2.3", "d", finding), TrackingUid("1.2.3", "d", finding));
}

v1::Run InState(v1::RunState state, v1::FlagState flag = v1::FLAG_STATE_UNSPECIFIED,
                v1::FlagLevel level = v1::FLAG_LEVEL_UNSPECIFIED) {
  v1::Run run;
  run.set_state(state);
  run.mutable_flag()->set_state(flag);
  run.mutable_flag()->set_level(level);
  return run;
}

TEST(SummaryTest, CountsOutcomesAndTakesTheHighestLevel) {
  const v1::StudySummary summary = Summarise(
      {InState(v1::RUN_STATE_DONE, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_INFO),
       InState(v1::RUN_STATE_DONE, v1::FLAG_STATE_FLAGGED, v1::FLAG_LEVEL_URGENT),
       InState(v1::RUN_STATE_DONE, v1::FLAG_STATE_NO_FINDING),
       InState(v1::RUN_STATE_DONE, v1::FLAG_STATE_INCONCLUSIVE),
       InState(v1::RUN_STATE_DONE, v1::FLAG_STATE_NOT_APPLICABLE), InState(v1::RUN_STATE_FAILED),
       InState(v1::RUN_STATE_QUARANTINED), InState(v1::RUN_STATE_CANCELLED), InState(v1::RUN_STATE_RUNNING)});
  EXPECT_EQ(summary.state(), v1::SUMMARY_STATE_PARTIAL);
  EXPECT_EQ(summary.highest_level(), v1::FLAG_LEVEL_URGENT);
  EXPECT_EQ(summary.flagged(), 2u);
  EXPECT_EQ(summary.no_finding(), 1u);
  EXPECT_EQ(summary.inconclusive(), 1u);
  EXPECT_EQ(summary.not_applicable(), 1u);
  EXPECT_EQ(summary.failed(), 2u);
  EXPECT_EQ(summary.open(), 1u);
}

TEST(SummaryTest, GoesFromPendingToFinal) {
  EXPECT_EQ(Summarise({InState(v1::RUN_STATE_QUEUED), InState(v1::RUN_STATE_RUNNING)}).state(),
            v1::SUMMARY_STATE_PENDING);
  EXPECT_EQ(Summarise({InState(v1::RUN_STATE_FAILED), InState(v1::RUN_STATE_QUEUED)}).state(),
            v1::SUMMARY_STATE_PARTIAL);
  EXPECT_EQ(Summarise({InState(v1::RUN_STATE_FAILED), InState(v1::RUN_STATE_CANCELLED)}).state(),
            v1::SUMMARY_STATE_FINAL);
  EXPECT_EQ(Summarise({}).state(), v1::SUMMARY_STATE_FINAL);
}

TEST(SummaryTest, FlagThatSaysNothingIsNeverNoFinding) {
  const v1::StudySummary summary = Summarise({InState(v1::RUN_STATE_DONE)});
  EXPECT_EQ(summary.no_finding(), 0u);
  EXPECT_EQ(summary.inconclusive(), 1u);
}

}  // namespace
}  // namespace tomoserve::findings
