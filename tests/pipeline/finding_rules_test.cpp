// Which components become findings, in which order, with which score.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

// Spheres of different size and brightness along x.
class FindingRulesTest : public testing::PlacedRunTest {
 protected:
  FindingRulesTest() : geometry_(testing::AxialGeometry({90, 24, 24}, {1, 1, 1})), stored_(geometry_) {
    testing::PaintSphere(geometry_, {8, 12, 12}, 2, 90, stored_);
    testing::PaintSphere(geometry_, {28, 12, 12}, 8, 60, stored_);
    testing::PaintSphere(geometry_, {28, 12, 12}, 1, 80, stored_);
    testing::PaintSphere(geometry_, {50, 12, 12}, 5, 70, stored_);
    testing::PaintSphere(geometry_, {75, 12, 12}, 4, 100, stored_);
    testing::SetAffine(recipe_, 0.01, 0);
  }

  v1::FindingRule& rule() { return *recipe_.mutable_findings(0); }

  std::vector<v1::Finding> Findings() {
    const auto outcome = Run(recipe_, geometry_, stored_.Slices(), testing::Identity);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? outcome->result.findings : std::vector<v1::Finding>();
  }

  // Centres along x, rounded.
  std::vector<long> Places() {
    std::vector<long> places;
    for (const v1::Finding& finding : Findings()) places.push_back(std::lround(finding.centre_lps().x_mm()));
    return places;
  }

  volume::Geometry geometry_;
  testing::StoredVolume stored_;
  v1::Recipe recipe_ = testing::SpotRecipe();
};

TEST_P(FindingRulesTest, HighestScoreFirst) {
  EXPECT_THAT(Places(), ElementsAre(75, 8, 28, 50));
  rule().set_score(v1::SCORE_RULE_MEAN);
  EXPECT_THAT(Places(), ElementsAre(75, 8, 50, 28));
  const std::vector<v1::Finding> findings = Findings();
  EXPECT_NEAR(findings[2].score(), 0.7, 1e-5);
  EXPECT_NEAR(findings[3].score(), 0.6, 0.01);
}

TEST_P(FindingRulesTest, BoundsLeaveFindingsOut) {
  rule().set_min_score(0.75);
  EXPECT_THAT(Places(), ElementsAre(75, 8, 28));
  rule().set_min_score(0);
  rule().set_min_volume_ml(0.2);
  EXPECT_THAT(Places(), ElementsAre(75, 28, 50));
  rule().set_min_volume_ml(0);
  rule().set_min_longest_diameter_mm(9);
  EXPECT_THAT(Places(), ElementsAre(28, 50));
}

TEST_P(FindingRulesTest, AtMostSoMany) {
  rule().set_max_findings(2);
  EXPECT_THAT(Places(), ElementsAre(75, 8));
  // Bounds are applied first.
  rule().set_min_longest_diameter_mm(9);
  EXPECT_THAT(Places(), ElementsAre(28, 50));
}

TEST_P(FindingRulesTest, AWholeLabelIsOneFinding) {
  rule().set_each_component(false);
  const std::vector<v1::Finding> findings = Findings();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_NEAR(findings[0].longest_diameter_3d_mm().value(), 75 + 4 - (8 - 2), 0.5);
  EXPECT_NEAR(findings[0].score(), 1, 1e-6);
}

TEST_P(FindingRulesTest, AbsentLabelsGiveNothing) {
  recipe_.mutable_decode(0)->mutable_threshold()->set_above(2);
  rule().set_each_component(false);
  EXPECT_TRUE(Findings().empty());
}

TEST_P(FindingRulesTest, FieldsAreFilled) {
  rule().set_max_findings(1);
  testing::PaintSphere(geometry_, {75, 12, 12}, 4, 0, stored_);
  testing::PaintSphere(geometry_, {86, 12, 12}, 6, 100, stored_);  // cut by the last column
  const std::vector<v1::Finding> findings = Findings();
  ASSERT_EQ(findings.size(), 1u);
  const v1::Finding& finding = findings[0];
  EXPECT_EQ(finding.label_value(), 1u);
  EXPECT_EQ(finding.label(), "spot");
  EXPECT_EQ(finding.calibration(), v1::CALIBRATION_UNCALIBRATED);
  EXPECT_EQ(finding.laterality(), v1::LATERALITY_UNSPECIFIED);
  EXPECT_THAT(finding.limitations(), ElementsAre("TOUCHES_VOLUME_EDGE"));
  EXPECT_THAT(finding.extent_mm(), ElementsAre(10, 13, 13));
  EXPECT_EQ(finding.box_lps().min().x_mm(), 79.5);
  EXPECT_EQ(finding.box_lps().max().x_mm(), 89.5);
  EXPECT_EQ(finding.box_lps().min().z_mm(), 5.5);
  EXPECT_EQ(finding.key_slice_k(), 12u);
  EXPECT_NEAR(finding.volume_ml().value(), static_cast<double>(finding.voxels()) / 1000, 1e-12);
  EXPECT_GT(finding.volume_ml().uncertainty(), 0);
  EXPECT_LT(finding.volume_ml().uncertainty(), finding.volume_ml().value());
  EXPECT_EQ(finding.long_axis_mm().value(), 12);
  EXPECT_EQ(finding.longest_diameter_3d_mm().value(), 12);
  EXPECT_NEAR(finding.longest_diameter_3d_mm().uncertainty(), std::sqrt(3.0), 1e-12);
  EXPECT_NEAR(finding.long_axis_mm().uncertainty(), std::sqrt(2.0), 1e-12);
  EXPECT_EQ(finding.mean_diameter_mm().value(),
            (finding.long_axis_mm().value() + finding.short_axis_mm().value()) / 2);
  EXPECT_FALSE(finding.volume_ml().method().empty());
  EXPECT_TRUE(finding.tracking_uid().empty());
}

TS_INSTANTIATE_PLACES(FindingRulesTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
