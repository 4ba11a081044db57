// Sorting and the geometry verdict.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Everything that BuildStudy says, as text.
std::string Everything(const StudySeries& study) {
  std::string text = study.ref.DebugString();
  for (const auto& notice : study.notices) text += notice.DebugString();
  for (const Series& series : study.series) {
    text += series.series_instance_uid + " " + std::to_string(series.instances) + "\n";
    for (const SetAside& aside : series.set_aside)
      text += std::to_string(aside.count) + aside.reason.DebugString();
    for (const Volume& volume : series.volumes) {
      text += std::to_string(static_cast<int>(volume.verdict)) + "\n";
      for (const auto& reason : volume.reasons) text += reason.DebugString();
      if (volume.geometry) text += volume.geometry->ToProto().DebugString();
      for (const VolumeSlice& slice : volume.slices) text += slice.sop_instance_uid + " ";
      text += volume.representative.sop_instance_uid();
    }
  }
  return text;
}

TEST(SeriesTest, SortsByPositionAndBuildsTheAffine) {
  std::vector<Instance> stack = Stack(5);
  std::swap(stack[0], stack[3]);
  std::swap(stack[1], stack[4]);
  // Instance numbers that run the other way do not matter.
  for (Instance& instance : stack)
    instance.header.set_instance_number(100 - static_cast<int>(instance.index));
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_THAT(volume.reasons, IsEmpty());
  EXPECT_THAT(Indices(volume), ElementsAre(0, 1, 2, 3, 4));
  ASSERT_TRUE(volume.geometry);
  EXPECT_THAT(volume.geometry->size_ijk(), ElementsAre(6, 4, 5));
  // Pixel Spacing is (between rows, between columns): i steps between columns.
  EXPECT_THAT(volume.geometry->spacing_mm(), ElementsAre(0.75, 0.5, 2.5));
  EXPECT_THAT(volume.geometry->origin_lps().mm, ElementsAre(10, 20, 0));
  EXPECT_THAT(volume.geometry->directions()[2], ElementsAre(0, 0, 1));
  EXPECT_EQ(volume.slices[2].slope, 1);
  EXPECT_EQ(volume.slices[2].intercept, -1024);
  EXPECT_EQ(volume.slices[2].stored_type, ipc::v1::STORED_TYPE_I16);
  EXPECT_EQ(volume.representative.sop_instance_uid(), "1.2.3.4.100");
}

TEST(SeriesTest, StacksAscendAlongRowCrossColumnInEveryPlane) {
  // Sagittal: columns run back (+y), rows down (-z); row x column = (-1, 0, 0): k ascends to the right.
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 4; ++n) {
    stack.push_back(Slice(n, 0));
    SetPosition(stack.back(), 3.0 * n, 0, 0);
    const double cosines[] = {0, 1, 0, 0, 0, -1};
    for (int value = 0; value < 6; ++value) stack.back().header.set_image_orientation(value, cosines[value]);
  }
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_THAT(Indices(volume), ElementsAre(3, 2, 1, 0));
  ASSERT_TRUE(volume.geometry);
  EXPECT_THAT(volume.geometry->origin_lps().mm, ElementsAre(9, 0, 0));
  EXPECT_THAT(volume.geometry->directions()[2], ElementsAre(-1, 0, 0));
  EXPECT_THAT(volume.geometry->spacing_mm(), ElementsAre(0.75, 0.5, 3));
}

TEST(SeriesTest, OrderOfInstancesDoesNotMatter) {
  std::vector<Instance> study = Stack(6);
  study.push_back(Slice(7, 40));
  study[2].header.set_image_orientation(0, std::cos(0.1));
  study[2].header.set_image_orientation(1, std::sin(0.1));
  study[2].header.set_image_orientation(3, -std::sin(0.1));
  study[2].header.set_image_orientation(4, std::cos(0.1));
  for (std::uint32_t n = 0; n < 6; ++n) {
    Instance other = Slice(20 + n, 5.0 * (n / 2));
    other.header.set_series_instance_uid("");
    other.header.set_series_number(2);
    other.header.set_echo_number(static_cast<int>(n % 2));
    if (n == 3) other.header.set_sop_instance_uid("");
    study.push_back(other);
  }
  Instance conflict = study[4];
  conflict.content_sha256 = base::Sha256Hex("other");
  study.push_back(conflict);
  study[3].header.set_patient_sex("F");
  study[5].header.set_patient_sex("M");
  const std::string expected = Everything(BuildStudy(study));
  std::uint64_t state = 1;
  for (int round = 0; round < 50; ++round) {
    for (std::size_t n = study.size() - 1; n > 0; --n) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      std::swap(study[n], study[(state >> 33) % (n + 1)]);
    }
    EXPECT_EQ(Everything(BuildStudy(study)), expected);
  }
}

TEST(SeriesTest, DuplicatesCountOnce) {
  std::vector<Instance> stack = Stack(4);
  stack.push_back(stack[1]);
  stack.back().index = 9;
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series, SizeIs(1));
  EXPECT_EQ(study.series[0].instances, 4u);
  EXPECT_EQ(study.series[0].frames, 4u);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  EXPECT_THAT(Indices(study.series[0].volumes[0]), ElementsAre(0, 1, 2, 3));
}

TEST(SeriesTest, RejectsTwoContentsOfOneSopInstanceUid) {
  std::vector<Instance> stack = Stack(4);
  stack.push_back(stack[1]);
  stack.back().content_sha256 = base::Sha256Hex("other content");
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("DUPLICATE_CONFLICT"));
  EXPECT_EQ(ValueOf(volume, "DUPLICATE_CONFLICT"), "1");
}

TEST(SeriesTest, RejectsUnevenSpacing) {
  std::vector<Instance> stack = Stack(6);
  SetPosition(stack[5], 10, 20, 13.5);
  Volume volume = OnlyVolume(stack);
  EXPECT_THAT(Codes(volume), ElementsAre("UNEVEN_SPACING"));
  EXPECT_EQ(ValueOf(volume, "UNEVEN_SPACING"), "2.5,2.5,3.5");
  // Within 1 % is even.
  SetPosition(stack[5], 10, 20, 12.52);
  EXPECT_EQ(OnlyVolume(stack).verdict, Verdict::kAccept);
  SetPosition(stack[5], 10, 20, 12.53);
  EXPECT_EQ(OnlyVolume(stack).verdict, Verdict::kReject);
}

TEST(SeriesTest, RejectsSpacingThatDriftsWithinTheStepTolerance) {
  std::vector<Instance> stack;
  double z = 0;
  for (std::uint32_t n = 0; n < 60; ++n) {
    stack.push_back(Slice(n, z));
    z += n < 30 ? 2.5 : 2.52;
  }
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("UNEVEN_SPACING"));
}

TEST(SeriesTest, RejectsAChangeOfSpacingInTheStack) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 6; ++n) stack.push_back(Slice(n, n < 4 ? 1.5 * n : 4.5 + 4.0 * (n - 3)));
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("UNEVEN_SPACING"));
}

TEST(SeriesTest, ThickerSlicesFurtherApartAreUnevenAndNotMissing) {
  // 5 mm slices, then 10 mm ones; the latter at the end, in the middle, at the beginning; thickness unknown.
  const auto with = [](std::uint32_t first_thick, std::uint32_t last_thick, bool thickness) {
    std::vector<Instance> stack;
    double z = 0;
    for (std::uint32_t n = 0; n < 12; ++n) {
      const bool thick = n >= first_thick && n <= last_thick;
      if (n > 0) z += thick ? 10 : 5;
      stack.push_back(Slice(n, z));
      if (thickness) stack.back().header.set_slice_thickness_mm(thick ? 10 : 5);
    }
    return OnlyVolume(stack);
  };
  for (const auto& [first, last] : {std::pair{8u, 11u}, {4u, 6u}, {1u, 3u}, {6u, 6u}}) {
    const Volume volume = with(first, last, true);
    EXPECT_THAT(Codes(volume), ElementsAre("UNEVEN_SPACING")) << first;
    EXPECT_EQ(ValueOf(volume, "UNEVEN_SPACING"), "5,5,10");
  }
  EXPECT_THAT(Codes(with(8, 11, false)), ElementsAre("UNEVEN_SPACING"));
  EXPECT_THAT(Codes(with(1, 3, false)), ElementsAre("UNEVEN_SPACING"));
  // One gap, or gaps between others, are slices that were lost.
  EXPECT_THAT(Codes(with(11, 11, false)), ElementsAre("MISSING_SLICES"));
  EXPECT_THAT(Codes(with(4, 6, false)), ElementsAre("MISSING_SLICES"));
}

TEST(SeriesTest, AcceptsATinyLeanAndKeepsItInTheAffine) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 5; ++n) {
    stack.push_back(Slice(n, 0));
    SetPosition(stack.back(), 0, 0.01 * n, 2.5 * n);
  }
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  ASSERT_TRUE(volume.geometry);
  EXPECT_NEAR(volume.geometry->ToLps({{0, 0, 4}}).mm[1], 0.04, 1e-12);
  EXPECT_NEAR(volume.geometry->ToLps({{0, 0, 4}}).mm[2], 10, 1e-12);
}

TEST(SeriesTest, RejectsSlicesBesideTheLine) {
  std::vector<Instance> stack = Stack(6);
  SetPosition(stack[3], 12, 20, 7.5);
  const Volume volume = OnlyVolume(stack);
  EXPECT_THAT(Codes(volume), ElementsAre("SHIFTED_SLICES"));
  EXPECT_EQ(ValueOf(volume, "SHIFTED_SLICES"), "1");
}

TEST(SeriesTest, RejectsMixedOrientation) {
  // One rotated slice at the end, where its absence would not leave a gap.
  std::vector<Instance> stack = Stack(6);
  const double cosines[] = {std::cos(0.02), std::sin(0.02), 0, -std::sin(0.02), std::cos(0.02), 0};
  for (int value = 0; value < 6; ++value) stack[5].header.set_image_orientation(value, cosines[value]);
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kReject);
  EXPECT_THAT(Codes(study.series[0].volumes[0]), ElementsAre("MIXED_ORIENTATION"));
  ASSERT_THAT(study.series[0].set_aside, SizeIs(1));
  EXPECT_EQ(study.series[0].set_aside[0].count, 1u);
}

TEST(SeriesTest, RejectsMixedMatrixAndSpacingAndFrameOfReference) {
  std::vector<Instance> stack = Stack(6);
  stack[5].header.set_rows(5);
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("MIXED_MATRIX"));
  stack = Stack(6);
  stack[5].header.set_pixel_spacing_mm(1, 0.8);
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("MIXED_SPACING"));
  stack = Stack(6);
  stack[5].header.set_frame_of_reference_uid("1.9");
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("MIXED_FRAME_OF_REFERENCE"));
}

TEST(SeriesTest, NeedsTwoSlices) {
  EXPECT_THAT(Codes(OnlyVolume(Stack(1))), ElementsAre("TOO_FEW_SLICES"));
  EXPECT_EQ(OnlyVolume(Stack(2)).verdict, Verdict::kAccept);
}

TEST(SeriesTest, RescaleIsPerSliceAndJudged) {
  std::vector<Instance> stack = Stack(4);
  stack[2].header.set_rescale_slope(2.5);
  stack[3].header.set_stored_type(ipc::v1::STORED_TYPE_U16);
  Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_EQ(volume.slices[2].slope, 2.5);
  EXPECT_EQ(volume.slices[3].stored_type, ipc::v1::STORED_TYPE_U16);

  stack[2].header.set_rescale_slope(0);
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("RESCALE_INVALID"));
  stack[2].header.set_rescale_slope(std::numeric_limits<double>::infinity());
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("RESCALE_INVALID"));

  stack[2].header.clear_rescale_slope();
  stack[2].header.clear_rescale_intercept();
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("MIXED_RESCALE"));

  for (Instance& instance : stack) {
    instance.header.clear_rescale_slope();
    instance.header.clear_rescale_intercept();
  }
  volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kAccept);
  EXPECT_THAT(Codes(volume), ElementsAre("NO_RESCALE"));
  EXPECT_EQ(volume.slices[0].slope, 1);
  EXPECT_EQ(volume.slices[0].intercept, 0);
}

TEST(SeriesTest, RejectsOneOfSlopeAndInterceptWithoutTheOther) {
  // One slice: it would be 1024 HU too high.
  std::vector<Instance> stack = Stack(6);
  stack[5].header.clear_rescale_intercept();
  Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("MIXED_RESCALE"));
  EXPECT_EQ(ValueOf(volume, "MIXED_RESCALE"), "1");
  // Some lack the one, some the other.
  for (std::size_t n = 0; n < 5; ++n) stack[n].header.clear_rescale_slope();
  EXPECT_EQ(ValueOf(OnlyVolume(stack), "MIXED_RESCALE"), "6");
  // All slices of a CT.
  stack = Stack(6);
  for (Instance& instance : stack) instance.header.clear_rescale_intercept();
  volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("RESCALE_INVALID"));
  EXPECT_EQ(ValueOf(volume, "RESCALE_INVALID"), "6");
  // MR values have no scale of their own.
  for (Instance& instance : stack) {
    instance.header.set_modality("MR");
    instance.header.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.4");
  }
  EXPECT_EQ(OnlyVolume(stack).verdict, Verdict::kAccept);
}

TEST(SeriesTest, RejectsRescaleThatGivesNoFloats) {
  const auto with = [](double slope, double intercept) {
    std::vector<Instance> stack = Stack(4);
    stack[1].header.set_rescale_slope(slope);
    stack[1].header.set_rescale_intercept(intercept);
    return Codes(OnlyVolume(stack));
  };
  EXPECT_THAT(with(1e300, 0), ElementsAre("RESCALE_INVALID"));
  EXPECT_THAT(with(-1e34, 0), ElementsAre("RESCALE_INVALID"));  // times 2^16
  EXPECT_THAT(with(1, 4e38), ElementsAre("RESCALE_INVALID"));
  EXPECT_THAT(with(5e33, 0), IsEmpty());
}

TEST(SeriesTest, WorstLossyRatioOfAllSlicesIsRepresentative) {
  std::vector<Instance> stack = Stack(4);
  stack[2].header.set_lossy(true);
  stack[2].header.set_lossy_ratio(12);
  const Volume volume = OnlyVolume(stack);
  EXPECT_TRUE(volume.representative.lossy());
  EXPECT_EQ(volume.representative.lossy_ratio(), 12);
}

TEST(SeriesTest, SeriesComeByNumberThenUid) {
  std::vector<Instance> study;
  const auto add = [&](const char* uid, std::optional<int> number) {
    Instance instance = Slice(static_cast<std::uint32_t>(study.size()), 0);
    instance.header.set_series_instance_uid(uid);
    if (number) instance.header.set_series_number(*number);
    study.push_back(instance);
  };
  add("1.4", 10);
  add("1.1", std::nullopt);
  add("1.3", 2);
  add("1.2", 10);
  std::vector<std::string> uids;
  for (const Series& series : BuildStudy(study).series) uids.push_back(series.series_instance_uid);
  EXPECT_THAT(uids, ElementsAre("1.3", "1.2", "1.4", "1.1"));
}

TEST(SeriesTest, NothingGivesAnEmptyStudy) {
  const StudySeries study = BuildStudy({});
  EXPECT_THAT(study.series, IsEmpty());
  EXPECT_FALSE(study.identity_conflict);
}

}  // namespace
}  // namespace tomoserve::series
