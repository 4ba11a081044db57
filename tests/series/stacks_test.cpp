// Series of several stacks, and what is no volume at all.
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
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(SeriesTest, StacksOfSeveralPlanesAreSeveralVolumes) {
  std::vector<Instance> stack = Stack(5);
  for (std::uint32_t n = 0; n < 4; ++n) {
    Instance coronal = Slice(20 + n, 0);
    SetPosition(coronal, 0, 3.0 * n, 0);
    const double cosines[] = {1, 0, 0, 0, 0, -1};
    for (int value = 0; value < 6; ++value) coronal.header.set_image_orientation(value, cosines[value]);
    stack.push_back(coronal);
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  EXPECT_THAT(study.series[0].volumes[0].slices, SizeIs(5));
  EXPECT_EQ(study.series[0].volumes[1].verdict, Verdict::kAccept);
  EXPECT_THAT(study.series[0].volumes[1].slices, SizeIs(4));
}

TEST(SeriesTest, OneSliceOfEachPlaneIsNoVolume) {
  std::vector<Instance> planes = Stack(3);
  const double cosines[2][6] = {{1, 0, 0, 0, 0, -1}, {0, 1, 0, 0, 0, -1}};
  for (std::size_t plane = 0; plane < 2; ++plane) {
    for (int value = 0; value < 6; ++value)
      planes[plane].header.set_image_orientation(value, cosines[plane][value]);
  }
  const Volume volume = OnlyVolume(planes);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("MIXED_ORIENTATION"));
  EXPECT_THAT(volume.slices, SizeIs(3));
}

TEST(SeriesTest, RejectsSlicesThatCannotBePlacedOrRead) {
  const auto with = [](auto change) {
    std::vector<Instance> stack = Stack(6);
    change(stack[5].header);
    return OnlyVolume(stack);
  };
  using Header = ipc::v1::InstanceHeader;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_image_position(); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_image_orientation(); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_position(1, nan); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_position(1, 1e300); })), ElementsAre("NO_POSITION"));
  EXPECT_THAT(Codes(with([](Header& h) { h.clear_pixel_spacing_mm(); })), ElementsAre("NO_SPACING"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_pixel_spacing_mm(0, 0); })), ElementsAre("NO_SPACING"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_image_orientation(1, 0.5); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([&](Header& h) { h.set_image_orientation(1, nan); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_image_orientation(3, 0.01); })),
              ElementsAre("ORIENTATION_INVALID"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_has_pixels(false); })), ElementsAre("NO_PIXELS"));
  EXPECT_THAT(Codes(with([](Header& h) { h.set_stored_type(ipc::v1::STORED_TYPE_UNSPECIFIED); })),
              ElementsAre("PIXELS_UNSUPPORTED"));
}

TEST(SeriesTest, ASeriesWithoutAnyPositionIsOneRejectedVolume) {
  std::vector<Instance> stack = Stack(4);
  for (Instance& instance : stack) instance.header.clear_image_position();
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  const Volume& volume = study.series[0].volumes[0];
  EXPECT_THAT(Codes(volume), ElementsAre("NO_POSITION"));
  EXPECT_EQ(ValueOf(volume, "NO_POSITION"), "4");
  EXPECT_FALSE(volume.geometry);
  EXPECT_THAT(study.series[0].set_aside, IsEmpty());
}

TEST(SeriesTest, TwoAcquisitionsAreTwoVolumes) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 10; ++n) {
    stack.push_back(Slice(n, 2.5 * (n / 2)));
    stack.back().header.set_acquisition_number(n % 2 == 0 ? 7 : 3);
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(study.series[0].volumes[0].representative.acquisition_number(), 3);
  EXPECT_EQ(study.series[0].volumes[1].representative.acquisition_number(), 7);
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_THAT(Codes(volume), ElementsAre("SPLIT_BY"));
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "acquisition_number");
    EXPECT_THAT(volume.slices, SizeIs(5));
  }
}

TEST(SeriesTest, EchoesInTimeAreSplitByBothAttributes) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 24; ++n) {
    stack.push_back(Slice(n, 2.0 * (n / 4)));
    stack.back().header.set_echo_time_ms(n % 2 == 0 ? 4.9 : 7.4);
    stack.back().header.set_temporal_position(static_cast<int>((n / 2) % 2));
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(4));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "temporal_position,echo_time");
}

TEST(SeriesTest, AttributesThatRepeatNoPositionDoNotSplit) {
  std::vector<Instance> stack = Stack(6);
  for (Instance& instance : stack) {
    instance.header.set_acquisition_number(static_cast<int>(instance.index / 3));
    instance.header.set_trigger_time_ms(instance.index * 11.0);
  }
  EXPECT_EQ(OnlyVolume(stack).verdict, Verdict::kAccept);
}

TEST(SeriesTest, PhasesByTriggerTimeAreVolumes) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 12; ++n) {
    stack.push_back(Slice(n, 2.0 * (n / 3)));
    // Gated times are a little different at each position.
    stack.back().header.set_trigger_time_ms(40.0 * (n % 3) + 0.5 * (n / 3));
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(3));
  for (std::uint32_t phase = 0; phase < 3; ++phase) {
    const Volume& volume = study.series[0].volumes[phase];
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "trigger_time");
    EXPECT_THAT(Indices(volume), ElementsAre(phase, 3 + phase, 6 + phase, 9 + phase));
  }
}

TEST(SeriesTest, IncompletePhasesAreRejected) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 12; ++n) {
    stack.push_back(Slice(n, 2.0 * (n / 3)));
    stack.back().header.set_trigger_time_ms(40.0 * (n % 3) + 0.5 * (n / 3));
  }
  stack.pop_back();
  const Volume volume = OnlyVolume(stack);
  EXPECT_EQ(volume.verdict, Verdict::kReject);
  EXPECT_THAT(Codes(volume), ElementsAre("MULTI_PHASE"));
  EXPECT_EQ(ValueOf(volume, "MULTI_PHASE"), "3");
}

TEST(SeriesTest, PhasesOfCtAreSplitByTheirAcquisitionTime) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 12; ++n) {
    stack.push_back(Slice(n, 2.5 * (n % 6)));
    stack.back().header.set_acquisition_time(n < 6 ? "10150" + std::to_string(n % 6) + ".25"
                                                   : "10160" + std::to_string(n % 6));
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "acquisition_time");
  EXPECT_THAT(Indices(study.series[0].volumes[0]), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(SeriesTest, TimePointsWithoutAnyTimeAreSplitByWholeRunsOfInstanceNumbers) {
  const auto with = [](auto number) {
    std::vector<Instance> stack;
    for (std::uint32_t n = 0; n < 12; ++n) {
      stack.push_back(Slice(n, 2.5 * (n % 4)));
      stack.back().header.set_instance_number(number(n / 4, n % 4));
    }
    return stack;
  };
  // One volume after the other, and all times of a slice after each other.
  for (const auto& stack : {with([](std::uint32_t time, std::uint32_t k) { return 5 + 4 * time + k; }),
                            with([](std::uint32_t time, std::uint32_t k) { return 5 + time + 3 * k; })}) {
    const StudySeries study = BuildStudy(stack);
    ASSERT_THAT(study.series[0].volumes, SizeIs(3));
    EXPECT_EQ(ValueOf(study.series[0].volumes[1], "SPLIT_BY"), "instance_number");
    EXPECT_THAT(Indices(study.series[0].volumes[1]), ElementsAre(4, 5, 6, 7));
  }
  // Numbers that start again, or that follow neither order, tell nothing apart.
  EXPECT_THAT(Codes(OnlyVolume(with([](std::uint32_t, std::uint32_t k) { return k; }))),
              ElementsAre("DUPLICATE_POSITIONS"));
  EXPECT_THAT(
      Codes(OnlyVolume(with([](std::uint32_t time, std::uint32_t k) { return (4 * time + k) * 7 % 13; }))),
      ElementsAre("DUPLICATE_POSITIONS"));
}

TEST(SeriesTest, DiffusionIsSplitByDirectionAndWeighting) {
  std::vector<Instance> stack;
  const double directions[][3] = {{1, 0, 0}, {0, 1, 0}};
  for (std::uint32_t n = 0; n < 20; ++n) {
    stack.push_back(Slice(n, 2.0 * (n / 5)));
    const std::uint32_t weighting = n % 5;  // none, then two directions with two b values
    auto& h = stack.back().header;
    h.set_diffusion_b_value(weighting == 0 ? 0 : weighting < 3 ? 500 : 1000);
    if (weighting == 0) continue;
    for (const double value : directions[weighting % 2]) h.add_diffusion_direction(value);
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(5));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_EQ(ValueOf(volume, "SPLIT_BY"), "b_value,diffusion_direction");
  }
  EXPECT_EQ(study.series[0].volumes[0].representative.diffusion_b_value(), 0);
}

TEST(SeriesTest, MagnitudeAndPhaseAreSplitByImageType) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 8; ++n) {
    stack.push_back(Slice(n, 2.0 * (n / 2)));
    for (const char* value : {"ORIGINAL", "PRIMARY", n % 2 == 0 ? "M" : "P"})
      stack.back().header.add_image_type(value);
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "image_type");
}

TEST(SeriesTest, RejectsPositionsThatNothingTellsApart) {
  std::vector<Instance> stack = Stack(6);
  stack.push_back(Slice(20, 5));
  const Volume volume = OnlyVolume(stack);
  EXPECT_THAT(Codes(volume), ElementsAre("DUPLICATE_POSITIONS"));
  EXPECT_EQ(ValueOf(volume, "DUPLICATE_POSITIONS"), "1");
  EXPECT_THAT(volume.slices, SizeIs(7));
}

TEST(SeriesTest, LocalizersPicturesAndObjectsAreSetAside) {
  std::vector<Instance> stack = Stack(5);
  const auto add = [&](auto change) {
    Instance instance = Slice(static_cast<std::uint32_t>(20 + stack.size()), 77);
    change(instance.header);
    stack.push_back(instance);
  };
  using Header = ipc::v1::InstanceHeader;
  add([](Header& h) {
    for (const char* value : {"ORIGINAL", "PRIMARY", "LOCALIZER"}) h.add_image_type(value);
  });
  add([](Header& h) { h.set_kind(ipc::v1::OBJECT_KIND_PICTURE); });
  add([](Header& h) { h.set_kind(ipc::v1::OBJECT_KIND_OTHER); });
  add([](Header& h) { h.set_written_by_tomoserve(true); });
  const StudySeries study = BuildStudy(stack);
  EXPECT_EQ(study.series[0].instances, 9u);
  ASSERT_THAT(study.series[0].volumes, SizeIs(1));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  std::vector<std::string> codes;
  for (const SetAside& aside : study.series[0].set_aside) {
    EXPECT_EQ(aside.count, 1u);
    codes.push_back(aside.reason.code());
  }
  EXPECT_THAT(codes, ElementsAre("LOCALIZER", "NOT_AN_IMAGE", "OWN_OBJECT", "PICTURE"));
}

}  // namespace
}  // namespace tomoserve::series
