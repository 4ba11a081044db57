// Several stacks at the same places: time points, phases, echoes, diffusion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "series/headers.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

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

TEST(SeriesTest, PhasesThatDifferFromPositionToPositionAreRejected) {
  // Phases near 0 and 100 ms at the lower positions, near 100 and 200 ms at the upper ones.
  const auto mixed = [](double phase_of_upper) {
    std::vector<Instance> stack;
    for (std::uint32_t n = 0; n < 24; ++n) {
      const std::uint32_t position = n / 2;
      stack.push_back(Slice(n, 2.5 * position));
      const double phase = n % 2 + (position < 6 ? 0 : phase_of_upper);
      stack.back().header.set_trigger_time_ms(100 * phase + 0.5 * position);
      stack.back().header.set_instance_number(static_cast<int>(n));
    }
    return BuildStudy(stack).series[0].volumes;
  };
  ASSERT_THAT(mixed(1), SizeIs(1));
  EXPECT_THAT(Codes(mixed(1)[0]), ElementsAre("MULTI_PHASE"));
  EXPECT_EQ(ValueOf(mixed(1)[0], "MULTI_PHASE"), "2");
  // A fifth of a phase later is another heart beat.
  ASSERT_THAT(mixed(0.2), SizeIs(2));
  EXPECT_EQ(mixed(0.2)[0].verdict, Verdict::kAccept);
  EXPECT_EQ(ValueOf(mixed(0.2)[0], "SPLIT_BY"), "trigger_time");
}

TEST(SeriesTest, AttributesThatLeaveEverySecondSliceDoNotSplit) {
  // Two slices at each position: one AXIAL, the other X or Y in turn.
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 48; ++n) {
    stack.push_back(Slice(n, 2.5 * (n / 2)));
    stack.back().header.add_image_type(n % 2 == 0 ? "AXIAL" : n % 4 == 1 ? "X" : "Y");
  }
  EXPECT_THAT(Codes(OnlyVolume(stack)), ElementsAre("DUPLICATE_POSITIONS"));
  // What tells whole stacks apart still does.
  for (Instance& instance : stack) {
    instance.header.set_acquisition_time(instance.index % 2 == 0 ? "101500" : "111500");
    instance.header.set_instance_number(static_cast<int>(instance.index));
  }
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  for (const Volume& volume : study.series[0].volumes) {
    EXPECT_EQ(volume.verdict, Verdict::kAccept);
    EXPECT_THAT(volume.slices, SizeIs(24));
  }
}

TEST(SeriesTest, ATimePointThatLostASliceSaysSoAndTheOthersStay) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < 24; ++n) {
    stack.push_back(Slice(n, 2.5 * (n / 2)));
    stack.back().header.set_temporal_position(static_cast<int>(n % 2));
  }
  stack.erase(stack.begin() + 9);
  const StudySeries study = BuildStudy(stack);
  ASSERT_THAT(study.series[0].volumes, SizeIs(2));
  EXPECT_EQ(study.series[0].volumes[0].verdict, Verdict::kAccept);
  EXPECT_EQ(study.series[0].volumes[1].verdict, Verdict::kResample);
  EXPECT_THAT(Codes(study.series[0].volumes[1]), ElementsAre("MISSING_SLICES", "SPLIT_BY"));
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

}  // namespace
}  // namespace tomoserve::series
