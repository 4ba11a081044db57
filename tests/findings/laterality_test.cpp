#include <gtest/gtest.h>

#include <limits>

#include "findings/builders.h"
#include "tomoserve/models/laterality.h"

namespace tomoserve::findings {
namespace {

v1::Laterality OfWords(const std::string& name, const std::string& meaning = "") {
  v1::Label label;
  label.set_name(name);
  label.mutable_type()->set_meaning(meaning);
  return models::LateralityOfLabel(label);
}

TEST(LateralityTest, OfALabelIsThatOfItsWords) {
  for (const char* name : {"left", "kidney_left", "Left kidney", "LEFT-KIDNEY", "rib 3, left"}) {
    EXPECT_EQ(OfWords(name), v1::LATERALITY_LEFT) << name;
  }
  for (const char* name : {"right", "kidney_right", "Right kidney", "rib_right_3"}) {
    EXPECT_EQ(OfWords(name), v1::LATERALITY_RIGHT) << name;
  }
}

TEST(LateralityTest, OfALabelIsNotThatOfOtherWords) {
  for (const char* name :
       {"", "kidney", "leftover", "bright spot", "cleft", "left or right", "\xc3\xa4left"}) {
    EXPECT_EQ(OfWords(name), v1::LATERALITY_UNSPECIFIED) << name;
  }
}

TEST(LateralityTest, TheTypesMeaningSpeaksWhereTheNameDoesNot) {
  EXPECT_EQ(OfWords("kidney 1", "Left kidney"), v1::LATERALITY_LEFT);
  EXPECT_EQ(OfWords("kidney_right", "Kidney"), v1::LATERALITY_RIGHT);
  EXPECT_EQ(OfWords("kidney_right", "Left kidney"), v1::LATERALITY_RIGHT) << "the name comes first";
  EXPECT_EQ(OfWords("left and right", "Left kidney"), v1::LATERALITY_UNSPECIFIED);
}

// Nodules (label 1) beside vertebrae (label 2) whose middle is at x = -12 mm.
class MidplaneTest : public ::testing::Test {
 protected:
  MidplaneTest() {
    recipe_.add_findings()->set_label(1);
    v1::SideOfMidplane& rule = *recipe_.mutable_findings(0)->mutable_laterality()->mutable_of_midplane();
    rule.set_label(2);
    rule.set_margin_mm(5);
    *done_.add_labels() = Extent(1, 1, 3, 4);
    vertebrae_ = done_.add_labels();
    *vertebrae_ = Extent(2, 200, 0, 50);  // cut at both ends of the stack, as spines are
    for (const double mm : {-12.0, 90.0, 400.0}) vertebrae_->add_center_lps(mm);
  }
  v1::Laterality At(double x_mm, std::uint32_t time_point = 0) const {
    v1::Finding finding = Nodule(8, 1);
    finding.mutable_centre_lps()->set_x_mm(x_mm);
    finding.set_time_point(time_point);
    return LateralityOf(recipe_, done_, finding);
  }
  v1::Recipe recipe_;
  ipc::v1::RunDone done_;
  ipc::v1::LabelExtent* vertebrae_ = nullptr;
};

TEST_F(MidplaneTest, LeftOfThePatientIsTowardsLargerX) {
  EXPECT_EQ(At(-6.9), v1::LATERALITY_LEFT);
  EXPECT_EQ(At(80), v1::LATERALITY_LEFT);
  EXPECT_EQ(At(-17.1), v1::LATERALITY_RIGHT);
  EXPECT_EQ(At(-90), v1::LATERALITY_RIGHT);
}

TEST_F(MidplaneTest, WithinTheMarginIsMidline) {
  for (const double x_mm : {-17.0, -12.0, -7.0}) EXPECT_EQ(At(x_mm), v1::LATERALITY_MIDLINE) << x_mm;
}

TEST_F(MidplaneTest, IsNotSaidWhereTheMiddleIsNotKnown) {
  EXPECT_EQ(At(80, 1), v1::LATERALITY_UNSPECIFIED) << "another time point";
  vertebrae_->set_touches_in_plane_border(true);
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
  vertebrae_->set_touches_in_plane_border(false);
  vertebrae_->set_center_lps(0, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
  vertebrae_->clear_center_lps();
  vertebrae_->set_voxels(0);
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
  done_.clear_labels();
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
}

TEST_F(MidplaneTest, IsNotSaidWithoutARule) {
  recipe_.mutable_findings(0)->clear_laterality();
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
  recipe_.clear_findings();
  EXPECT_EQ(At(80), v1::LATERALITY_UNSPECIFIED);
}

TEST(LateralityTest, OfAFindingIsThatOfItsLabelWhateverItsPlace) {
  v1::Recipe recipe;
  v1::Label& label = *recipe.add_labels();
  label.set_value(1);
  label.set_name("lung_right");
  recipe.add_findings()->set_label(1);
  recipe.mutable_findings(0)->mutable_laterality()->mutable_of_label();
  v1::Finding finding = Nodule(8, 1);
  finding.mutable_centre_lps()->set_x_mm(80);
  EXPECT_EQ(LateralityOf(recipe, {}, finding), v1::LATERALITY_RIGHT);
}

}  // namespace
}  // namespace tomoserve::findings
