// Flag rules on what a finding may lack: mean value, distances, side.
#include <gmock/gmock.h>

#include <functional>
#include <limits>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::Flag Judge(const v1::FlagRule& rule, const v1::Finding& finding) {
  v1::Recipe recipe;
  *recipe.add_flags() = rule;
  return JudgeFlag(recipe, {finding}, Covered(v1::COVERAGE_TARGET_COMPLETE));
}

v1::FlagRule Rule(v1::FlagLevel level) {
  v1::FlagRule rule;
  rule.set_label(1);
  rule.set_level(level);
  return rule;
}

void SetDistance(v1::Finding& finding, std::uint32_t label, double mm) {
  v1::Distance& distance = *finding.add_distances();
  distance.set_to_label(label);
  distance.mutable_mm()->set_value(mm);
}

TEST(FlagMeasuresTest, TheMeanValueCounts) {
  v1::FlagRule rule = Rule(v1::FLAG_LEVEL_ATTENTION);
  rule.mutable_mean_hu()->set_min(-700);
  rule.mutable_mean_hu()->set_max(-300);
  const auto state = [&](double hu) {
    v1::Finding finding = Nodule(8, 1);
    finding.mutable_mean_hu()->set_value(hu);
    return Judge(rule, finding).state();
  };
  EXPECT_EQ(state(-700), v1::FLAG_STATE_FLAGGED) << "ends are included";
  EXPECT_EQ(state(-300), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(state(-701), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(state(0), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(state(std::numeric_limits<double>::quiet_NaN()), v1::FLAG_STATE_INCONCLUSIVE);
}

TEST(FlagMeasuresTest, EveryDistanceCounts) {
  v1::FlagRule rule = Rule(v1::FLAG_LEVEL_ATTENTION);
  for (const std::uint32_t label : {2u, 5u}) {
    v1::DistanceBound& bound = *rule.add_distances();
    bound.set_to_label(label);
    bound.mutable_mm()->set_max(label);
  }
  const auto state = [&](double to_two, double to_five) {
    v1::Finding finding = Nodule(8, 1);
    SetDistance(finding, 5, to_five);
    SetDistance(finding, 2, to_two);
    return Judge(rule, finding).state();
  };
  EXPECT_EQ(state(2, 5), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(state(0, 0), v1::FLAG_STATE_FLAGGED);
  EXPECT_EQ(state(2.1, 5), v1::FLAG_STATE_NO_FINDING);
  EXPECT_EQ(state(2, 5.1), v1::FLAG_STATE_NO_FINDING);
}

TEST(FlagMeasuresTest, TheSideCounts) {
  v1::FlagRule rule = Rule(v1::FLAG_LEVEL_ATTENTION);
  rule.set_side(v1::TOWARDS_LEFT);
  v1::Finding finding = Nodule(8, 1);
  finding.set_laterality(v1::LATERALITY_LEFT);
  EXPECT_EQ(Judge(rule, finding).state(), v1::FLAG_STATE_FLAGGED);
  finding.set_laterality(v1::LATERALITY_MIDLINE);
  EXPECT_EQ(Judge(rule, finding).state(), v1::FLAG_STATE_NO_FINDING);
  finding.set_laterality(v1::LATERALITY_RIGHT);
  EXPECT_EQ(Judge(rule, finding).state(), v1::FLAG_STATE_NO_FINDING);
  rule.set_side(v1::TOWARDS_RIGHT);
  EXPECT_EQ(Judge(rule, finding).state(), v1::FLAG_STATE_FLAGGED);
}

// A rule that asks for something that the finding lacks.
struct Lack {
  const char* name;
  std::function<void(v1::FlagRule&)> ask;
  const char* missing;
};

class MissingTest : public ::testing::TestWithParam<Lack> {};

TEST_P(MissingTest, IsNeverNoFinding) {
  v1::FlagRule rule = Rule(v1::FLAG_LEVEL_ATTENTION);
  GetParam().ask(rule);
  const v1::Flag flag = Judge(rule, Nodule(8, 1));
  EXPECT_EQ(flag.state(), v1::FLAG_STATE_INCONCLUSIVE);
  EXPECT_THAT(Codes(flag.reasons()), ElementsAre("MEASUREMENT_MISSING"));
  EXPECT_EQ(flag.reasons(0).value(), GetParam().missing);
}

TEST_P(MissingTest, DoesNotMatterWhereAnotherBoundFails) {
  v1::FlagRule rule = Rule(v1::FLAG_LEVEL_ATTENTION);
  GetParam().ask(rule);
  rule.mutable_longest_diameter_mm()->set_min(9);
  EXPECT_EQ(Judge(rule, Nodule(8, 1)).state(), v1::FLAG_STATE_NO_FINDING);
}

TEST_P(MissingTest, IsSaidBesideALowerFlagOnly) {
  v1::Recipe recipe;
  *recipe.add_flags() = Rule(v1::FLAG_LEVEL_ATTENTION);
  *recipe.add_flags() = Rule(v1::FLAG_LEVEL_URGENT);
  const v1::Coverage complete = Covered(v1::COVERAGE_TARGET_COMPLETE);
  GetParam().ask(*recipe.mutable_flags(1));
  v1::Flag flag = JudgeFlag(recipe, {Nodule(8, 1)}, complete);
  EXPECT_EQ(flag.level(), v1::FLAG_LEVEL_ATTENTION);
  EXPECT_THAT(Codes(flag.reasons()), ElementsAre("MEASUREMENT_MISSING"));
  recipe.mutable_flags(1)->set_level(v1::FLAG_LEVEL_INFO);
  flag = JudgeFlag(recipe, {Nodule(8, 1)}, complete);
  EXPECT_EQ(flag.level(), v1::FLAG_LEVEL_ATTENTION);
  EXPECT_THAT(flag.reasons(), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    Measures, MissingTest,
    ::testing::Values(Lack{"MeanHu", [](v1::FlagRule& r) { r.mutable_mean_hu()->set_max(0); }, "mean_hu"},
                      Lack{"Distance",
                           [](v1::FlagRule& r) {
                             r.add_distances()->set_to_label(7);
                             r.mutable_distances(0)->mutable_mm()->set_max(3);
                           },
                           "distances to 7"},
                      Lack{"Side", [](v1::FlagRule& r) { r.set_side(v1::TOWARDS_LEFT); }, "side"}),
    [](const ::testing::TestParamInfo<Lack>& lack) { return std::string(lack.param.name); });

}  // namespace
}  // namespace tomoserve::findings
