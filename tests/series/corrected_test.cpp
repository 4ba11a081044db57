// Volumes that are usable after a correction: gaps and tilted gantries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

TEST(CorrectedTest, MissingSlicesAreInterpolatedAndNamed) {
  std::vector<Instance> stack = Stack(10);
  stack.erase(stack.begin() + 6);
  stack.erase(stack.begin() + 2, stack.begin() + 4);
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kResample);
  EXPECT_THAT(Codes(volume), ElementsAre("MISSING_SLICES"));
  EXPECT_EQ(ValueOf(volume, "MISSING_SLICES"), "3");
  EXPECT_THAT(volume.reasons[0].text(), HasSubstr("2 after k=1, 1 after k=3"));
  ASSERT_TRUE(volume.geometry);
  // The gap keeps its place: nothing is stretched over it.
  EXPECT_THAT(volume.geometry->size_ijk(), ElementsAre(6, 4, 10));
  EXPECT_NEAR(volume.geometry->spacing_mm()[2], 2.5, 1e-12);
  EXPECT_EQ(volume.acquired, volume.geometry);
  EXPECT_EQ(volume.synthetic_slices(), 3u);
  ASSERT_THAT(volume.slices, SizeIs(10));
  for (std::uint32_t k = 0; k < 10; ++k) {
    EXPECT_EQ(volume.slices[k].synthetic.has_value(), k == 2 || k == 3 || k == 6) << k;
  }
  const Synthetic& second = *volume.slices[3].synthetic;
  EXPECT_EQ(second.before, 1u);
  EXPECT_EQ(second.after, 4u);
  EXPECT_NEAR(second.weight, 2.0 / 3, 1e-12);
  // What stands for it is the nearer neighbour.
  EXPECT_EQ(volume.slices[2].index, 1u);
  EXPECT_EQ(volume.slices[3].index, 4u);
}

TEST(CorrectedTest, RejectsMoreMissingSlicesThanThereAre) {
  std::vector<Instance> stack = Stack(3);
  stack.push_back(Slice(9, 2.5 * 8));
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("MISSING_SLICES"));
  EXPECT_EQ(ValueOf(volume, "MISSING_SLICES"), "5");
  EXPECT_THAT(volume.slices, SizeIs(4));
  EXPECT_EQ(volume.synthetic_slices(), 0u);
}

TEST(CorrectedTest, WhatElseIsWrongRejectsAVolumeWithAGap) {
  std::vector<Instance> stack = Stack(10);
  stack.erase(stack.begin() + 6);
  Instance conflict = stack[2];
  conflict.content_sha256 = base::Sha256Hex("other content");
  stack.push_back(conflict);
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("DUPLICATE_CONFLICT", "MISSING_SLICES"));
  EXPECT_THAT(volume.slices, SizeIs(9));
}

// Slices whose stack leans by `degrees` towards the patient's back.
std::vector<Instance> TiltedStack(std::uint32_t count, double degrees) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < count; ++n) {
    stack.push_back(Slice(n, 0));
    SetPosition(stack.back(), 10, 2.5 * n * std::tan(degrees * M_PI / 180), 2.5 * n);
    stack.back().header.set_rows(40);
  }
  return stack;
}

TEST(CorrectedTest, ATiltedGantryIsCorrectedByAShear) {
  const double degrees = 10;
  const Volume volume = OnlyVolume(TiltedStack(5, degrees));
  EXPECT_EQ(volume.verdict, Verdict::kResample);
  EXPECT_THAT(Codes(volume), ElementsAre("GANTRY_TILT"));
  EXPECT_EQ(ValueOf(volume, "GANTRY_TILT"), "10");
  ASSERT_TRUE(volume.geometry);
  // The last slice lies 10 mm * tan(10 deg) = 1.763 mm back: 3.53 rows of 0.5 mm.
  EXPECT_THAT(volume.geometry->size_ijk(), ElementsAre(6, 40 + 4, 5));
  EXPECT_THAT(volume.geometry->directions()[2], ElementsAre(0, 0, 1));
  EXPECT_NEAR(volume.geometry->spacing_mm()[2], 2.5, 1e-12);
  EXPECT_THAT(volume.geometry->origin_lps().mm, ElementsAre(10, 0, 0));
  for (std::uint32_t k = 0; k < 5; ++k) {
    EXPECT_EQ(volume.slices[k].shift_ij[0], 0);
    EXPECT_NEAR(volume.slices[k].shift_ij[1], 2.5 * k * std::tan(degrees * M_PI / 180) / 0.5, 1e-3) << k;
  }
  ASSERT_TRUE(volume.acquired);
  EXPECT_THAT(volume.acquired->size_ijk(), ElementsAre(6, 40, 5));
  EXPECT_EQ(volume.acquired->origin_lps(), volume.geometry->origin_lps());
  EXPECT_EQ(volume.acquired->directions(), volume.geometry->directions());
}

TEST(CorrectedTest, EveryPixelOfATiltedStackKeepsItsPlaceInTheCorrectedGrid) {
  for (const double degrees : {-30.0, -3.0, 0.8, 25.0}) {
    const std::vector<Instance> stack = TiltedStack(9, degrees);
    Volume volume = OnlyVolume(stack);
    ASSERT_EQ(volume.verdict, Verdict::kResample) << degrees;
    for (std::uint32_t k = 0; k < 9; ++k) {
      const auto& shift = volume.slices[k].shift_ij;
      for (const double row : {0.0, 39.0}) {
        const double j = row + shift[1];
        EXPECT_TRUE(j >= 0 && j <= volume.geometry->size_ijk()[1] - 1) << degrees << " " << k;
        const auto point = volume.geometry->ToLps({{2 + shift[0], j, static_cast<double>(k)}}).mm;
        EXPECT_NEAR(point[0], 10 + 2 * 0.75, 1e-9);
        EXPECT_NEAR(point[1], stack[k].header.image_position(1) + row * 0.5, 0.5e-3);
        EXPECT_NEAR(point[2], 2.5 * k, 1e-9);
      }
    }
  }
}

TEST(CorrectedTest, ATiltedStackMayHaveAGap) {
  std::vector<Instance> stack = TiltedStack(8, 12);
  stack.erase(stack.begin() + 3);
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kResample);
  EXPECT_THAT(Codes(volume), ElementsAre("MISSING_SLICES", "GANTRY_TILT"));
  ASSERT_THAT(volume.slices, SizeIs(8));
  EXPECT_TRUE(volume.slices[3].synthetic);
  EXPECT_NEAR(volume.slices[7].shift_ij[1], 17.5 * std::tan(12 * M_PI / 180) / 0.5, 1e-3);
}

TEST(CorrectedTest, SaysWhereTheHeadersTiltDoesNotShow) {
  const auto stated = [](std::vector<Instance> stack, double degrees) {
    for (Instance& instance : stack) instance.header.set_gantry_tilt_deg(degrees);
    return OnlyVolume(stack);
  };
  Volume volume = stated(Stack(6), -20);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_THAT(Codes(volume), ElementsAre("GANTRY_TILT_UNCONFIRMED"));
  EXPECT_EQ(ValueOf(volume, "GANTRY_TILT_UNCONFIRMED"), "-20");
  EXPECT_EQ(stated(Stack(6), 0.5).reasons.size(), 0u);
  // The stack shows it.
  EXPECT_THAT(Codes(stated(TiltedStack(6, 20), 20)), ElementsAre("GANTRY_TILT"));
  // The plane shows it: slices that lie one above the other along a tilted normal.
  std::vector<Instance> stack = Stack(6);
  const double tilt = 20 * M_PI / 180;
  for (Instance& instance : stack) {
    instance.header.set_image_orientation(4, std::cos(tilt));
    instance.header.set_image_orientation(5, std::sin(tilt));
    SetPosition(instance, 0, -2.5 * instance.index * std::sin(tilt), 2.5 * instance.index * std::cos(tilt));
  }
  volume = stated(stack, 20);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_EQ(volume.reasons.size(), 0u);
}

TEST(CorrectedTest, RejectsTiltNoGantryHasAndShearOfMr) {
  Volume volume = OnlyVolume(TiltedStack(5, 46));
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("GANTRY_TILT"));
  // Nor one that needs a grid of more than twice the size.
  EXPECT_EQ(OnlyVolume(TiltedStack(20, 20)).verdict, Verdict::kResample);
  volume = OnlyVolume(TiltedStack(30, 20));
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("GANTRY_TILT"));
  EXPECT_THAT(volume.reasons[0].text(), HasSubstr("by more than an image's size"));
  std::vector<Instance> stack = TiltedStack(5, 14);
  for (Instance& instance : stack) {
    instance.header.set_modality("MR");
    instance.header.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.4");
  }
  volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("SHEAR"));
  EXPECT_EQ(ValueOf(volume, "SHEAR"), "14");
}

}  // namespace
}  // namespace tomoserve::series
