// Whether labels lie and measure as in every patient.
#include <gmock/gmock.h>

#include <limits>

#include "findings/builders.h"

namespace tomoserve::findings {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint32_t kLiver = 1;
constexpr std::uint32_t kSpleen = 2;

v1::Recipe OrganRecipe() {
  v1::Recipe recipe;
  for (const auto& [value, name] : {std::pair{kLiver, "liver"}, {kSpleen, "spleen"}}) {
    recipe.add_labels()->set_value(value);
    recipe.mutable_labels(recipe.labels_size() - 1)->set_name(name);
  }
  recipe.mutable_coverage()->mutable_not_needed()->set_because("tests");
  return recipe;
}

v1::Recipe SideRecipe(v1::Towards towards = v1::TOWARDS_RIGHT, double by_mm = 10) {
  v1::Recipe recipe = OrganRecipe();
  v1::PlausibilityRule& rule = *recipe.add_plausibility();
  rule.set_label(kLiver);
  rule.set_towards(towards);
  rule.set_of_label(kSpleen);
  rule.set_by_mm(by_mm);
  return recipe;
}

ipc::v1::LabelExtent At(std::uint32_t label, double x_mm, double y_mm = 0, double z_mm = 100) {
  ipc::v1::LabelExtent extent = Extent(label, 100, 10, 80);
  for (const double mm : {x_mm, y_mm, z_mm}) extent.add_center_lps(mm);
  return extent;
}

// Values of the reasons, each with its code.
std::vector<std::string> Judged(const v1::Recipe& recipe, const std::vector<ipc::v1::LabelExtent>& extents) {
  ipc::v1::RunDone done;
  for (const ipc::v1::LabelExtent& extent : extents) *done.add_labels() = extent;
  std::vector<std::string> reasons;
  for (const v1::Reason& reason : JudgePlausibility(recipe, Grid(100), done)) {
    reasons.push_back(reason.code() + "(" + reason.value() + ")");
  }
  return reasons;
}

TEST(PlausibilityTest, TheLiverLiesToTheRightOfTheSpleen) {
  EXPECT_THAT(Judged(SideRecipe(), {At(kLiver, -60), At(kSpleen, 70)}), IsEmpty()) << "right is -x";
  EXPECT_THAT(Judged(SideRecipe(), {At(kLiver, 60), At(kSpleen, -70)}),
              ElementsAre("ORIENTATION_IMPLAUSIBLE(liver 130.0 mm left of spleen, not 10.0 mm right)"));
  EXPECT_THAT(Judged(SideRecipe(), {At(kLiver, -10), At(kSpleen, 0)}), IsEmpty()) << "the bound is included";
  EXPECT_THAT(Judged(SideRecipe(), {At(kLiver, -9.5), At(kSpleen, 0)}),
              ElementsAre("ORIENTATION_IMPLAUSIBLE(liver 9.5 mm right of spleen, not 10.0 mm right)"));
}

TEST(PlausibilityTest, EverySideIsAWayAlongAnAxisOfThePatient) {
  const std::vector<std::pair<v1::Towards, std::array<double, 3>>> sides = {
      {v1::TOWARDS_RIGHT, {-20, 0, 0}},    {v1::TOWARDS_LEFT, {20, 0, 0}},
      {v1::TOWARDS_ANTERIOR, {0, -20, 0}}, {v1::TOWARDS_POSTERIOR, {0, 20, 0}},
      {v1::TOWARDS_INFERIOR, {0, 0, -20}}, {v1::TOWARDS_SUPERIOR, {0, 0, 20}}};
  for (const auto& [towards, rule_side] : sides) {
    for (const auto& [other, place] : sides) {
      EXPECT_EQ(Judged(SideRecipe(towards), {At(kLiver, place[0], place[1], place[2]), At(kSpleen, 0, 0, 0)})
                    .empty(),
                towards == other)
          << v1::Towards_Name(towards) << " " << v1::Towards_Name(other);
    }
  }
}

TEST(PlausibilityTest, WhatIsAbsentOrCutIsNotJudged) {
  const ipc::v1::LabelExtent spleen = At(kSpleen, -70);
  const ipc::v1::LabelExtent liver = At(kLiver, 60);
  ASSERT_FALSE(Judged(SideRecipe(), {liver, spleen}).empty());
  EXPECT_THAT(Judged(SideRecipe(), {liver}), IsEmpty());
  const auto changed = [&](const std::function<void(ipc::v1::LabelExtent&)>& change) {
    ipc::v1::LabelExtent cut = spleen;
    change(cut);
    return Judged(SideRecipe(), {liver, cut});
  };
  EXPECT_THAT(changed([](auto& extent) { extent.set_voxels(0); }), IsEmpty());
  EXPECT_THAT(changed([](auto& extent) { extent.set_first_k(0); }), IsEmpty());
  EXPECT_THAT(changed([](auto& extent) { extent.set_last_k(99); }), IsEmpty());
  EXPECT_THAT(changed([](auto& extent) { extent.set_touches_in_plane_border(true); }), IsEmpty());
  EXPECT_THAT(changed([](auto& extent) { extent.clear_center_lps(); }), IsEmpty());
  EXPECT_THAT(
      changed([](auto& extent) { extent.set_center_lps(0, std::numeric_limits<double>::quiet_NaN()); }),
      IsEmpty());
}

TEST(PlausibilityTest, VolumesHaveBounds) {
  v1::Recipe recipe = OrganRecipe();
  v1::PlausibilityRule& rule = *recipe.add_plausibility();
  rule.set_label(kLiver);
  rule.mutable_volume_ml()->set_min(500);
  rule.mutable_volume_ml()->set_max(4000);
  const auto judged = [&](double volume_ml) {
    ipc::v1::LabelExtent liver = At(kLiver, 0);
    liver.set_volume_ml(volume_ml);
    return Judged(recipe, {liver});
  };
  EXPECT_THAT(judged(500), IsEmpty());
  EXPECT_THAT(judged(4000), IsEmpty());
  EXPECT_THAT(judged(120), ElementsAre("VOLUME_IMPLAUSIBLE(liver 120.0 ml, at least 500.0)"));
  EXPECT_THAT(judged(4100.25), ElementsAre("VOLUME_IMPLAUSIBLE(liver 4100.2 ml, at most 4000.0)"));
}

TEST(PlausibilityTest, EachRuleSpeaksOnceWhateverTheTimePoints) {
  ipc::v1::LabelExtent later = At(kLiver, 60);
  ipc::v1::LabelExtent later_spleen = At(kSpleen, -70);
  later.set_time_point(1);
  later_spleen.set_time_point(1);
  EXPECT_THAT(Judged(SideRecipe(), {At(kLiver, -60), At(kSpleen, 70), later, later_spleen}),
              ElementsAre("ORIENTATION_IMPLAUSIBLE(liver 130.0 mm left of spleen, not 10.0 mm right)"));
  // Labels of different time points are not compared.
  EXPECT_THAT(Judged(SideRecipe(), {At(kSpleen, -70), later}), IsEmpty());
}

TEST(PlausibilityTest, AnImplausibleRunIsInconclusiveWhateverWasFound) {
  v1::Reason reason;
  reason.set_code("ORIENTATION_IMPLAUSIBLE");
  const v1::Coverage complete = Covered(v1::COVERAGE_TARGET_COMPLETE);
  for (const auto& findings : std::vector<std::vector<v1::Finding>>{{}, {Nodule(30, 1)}}) {
    const v1::Flag flag = JudgeFlag(NoduleRecipe(), findings, complete, {reason});
    EXPECT_EQ(flag.state(), v1::FLAG_STATE_INCONCLUSIVE);
    EXPECT_EQ(flag.level(), v1::FLAG_LEVEL_UNSPECIFIED);
    EXPECT_THAT(Codes(flag.reasons()), ElementsAre("ORIENTATION_IMPLAUSIBLE"));
  }
  EXPECT_THAT(Codes(JudgeFlag(NoduleRecipe(), {}, Covered(v1::COVERAGE_TARGET_PARTIAL), {reason}).reasons()),
              ElementsAre("ORIENTATION_IMPLAUSIBLE", "PARTIAL_COVERAGE", "MARGIN_HIGH_MM"));
}

}  // namespace
}  // namespace tomoserve::findings
