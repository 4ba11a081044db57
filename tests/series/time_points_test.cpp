// Which volumes of a series are time points of one stack, and recipes that take all of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "series/selections.h"
#include "series/volumes.h"

namespace tomoserve::series {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using tomoserve::v1::Input;

// `times` stacks of `slices` slices, index = time * slices + k, shuffled. `change` gets time and k.
std::vector<Instance> Times(std::uint32_t times, std::uint32_t slices,
                            const std::function<void(Header&, std::uint32_t, std::uint32_t)>& change) {
  std::vector<Instance> all;
  for (std::uint32_t time = 0; time < times; ++time) {
    for (std::uint32_t k = 0; k < slices; ++k) {
      Instance& instance = all.emplace_back(Slice(time * slices + k, 2.5 * k));
      change(instance.header, time, k);
    }
  }
  std::shuffle(all.begin(), all.end(), std::mt19937(7));
  return all;
}

Selection EveryTime(const StudySeries& study, const std::function<void(Input&)>& change = {}) {
  return Select(CtRecipe([&](Input& input) {
                  input.set_every_time_point(true);
                  if (change) change(input);
                }),
                study);
}

// Index of the first slice of each chosen volume.
std::vector<std::uint32_t> Firsts(const Selection& selection) {
  std::vector<std::uint32_t> firsts;
  for (const Volume* volume : selection.volumes) firsts.push_back(volume->slices.front().index);
  return firsts;
}

std::string Said(const Selection& selection) {
  EXPECT_THAT(selection.volumes, IsEmpty());
  return (selection.inconclusive ? "inconclusive: " : "not applicable: ") + Text(selection.reasons);
}

TEST(TimePointsTest, AScannerThatStoresNoTimeNumbersItsImages) {
  // GE's functional EPI: one acquisition number and time for all, no temporal position, one volume after the
  // other.
  const StudySeries study = BuildStudy(Times(5, 15, [](Header& h, std::uint32_t time, std::uint32_t k) {
    h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.4");
    h.set_modality("MR");
    h.clear_rescale_slope();
    h.clear_rescale_intercept();
    h.set_acquisition_number(1);
    h.set_acquisition_time("114815");
    h.set_echo_time_ms(30);
    for (const char* value : {"ORIGINAL", "PRIMARY", "EPI", "NONE"}) h.add_image_type(value);
    h.set_instance_number(static_cast<int>(1 + 15 * time + k));
  }));
  const Selection selection = EveryTime(study, [](Input& i) { i.set_modalities(0, "MR"); });
  ASSERT_THAT(selection.volumes, SizeIs(5));
  EXPECT_EQ(selection.channels, 1u);
  EXPECT_EQ(selection.time_points(), 5u);
  EXPECT_THAT(Firsts(selection), ElementsAre(0, 15, 30, 45, 60));
  for (const Series* series : selection.series) EXPECT_EQ(series, &study.series[0]);
  for (const Volume* volume : selection.volumes) EXPECT_EQ(volume->geometry, selection.volume()->geometry);
  ASSERT_THAT(selection.uses, SizeIs(1));
  EXPECT_TRUE(selection.uses[0].analysed());
  ASSERT_EQ(selection.uses[0].reasons_size(), 1);
  EXPECT_EQ(selection.uses[0].reasons(0).code(), "SPLIT_BY");
  EXPECT_EQ(selection.uses[0].reasons(0).text(), "5 of the 5 volumes in its series");
  // A recipe that does not ask for them takes one.
  const Selection one = Select(CtRecipe([](Input& i) { i.set_modalities(0, "MR"); }), study);
  EXPECT_THAT(Firsts(one), ElementsAre(0));
  EXPECT_EQ(one.uses[0].reasons(0).text(), "volume 1 of 5 in its series");
}

TEST(TimePointsTest, TimesAreSortedAsNumbers) {
  const int values[] = {1, 2, 9, 10, 11, 100};
  const auto firsts = [&](const std::function<void(Header&, std::uint32_t, std::uint32_t)>& change) {
    return Firsts(EveryTime(BuildStudy(Times(6, 4, change))));
  };
  const auto in_order = ElementsAre(0, 4, 8, 12, 16, 20);
  EXPECT_THAT(
      firsts([&](Header& h, std::uint32_t time, std::uint32_t) { h.set_temporal_position(values[time]); }),
      in_order);
  EXPECT_THAT(
      firsts([&](Header& h, std::uint32_t time, std::uint32_t) { h.set_acquisition_number(values[time]); }),
      in_order);
  EXPECT_THAT(firsts([&](Header& h, std::uint32_t time, std::uint32_t) {
                h.set_trigger_time_ms(10.0 * values[time]);
              }),
              in_order);
  // Gated times are a little different at each position.
  EXPECT_THAT(firsts([&](Header& h, std::uint32_t time, std::uint32_t k) {
                h.set_trigger_time_ms(10.0 * values[time] + 0.5 * k);
              }),
              in_order);
  EXPECT_THAT(firsts([&](Header& h, std::uint32_t time, std::uint32_t k) {
                const char* times[] = {"09595", "10000", "10001", "10010", "10100", "11000"};
                h.set_acquisition_time(times[time] + std::to_string(k));
              }),
              in_order);
}

TEST(TimePointsTest, ASeriesThatGoesOnOverMidnightIsInOrder) {
  const StudySeries study = BuildStudy(Times(4, 4, [](Header& h, std::uint32_t time, std::uint32_t k) {
    const char* minutes[] = {"2345", "2355", "0005", "0015"};
    h.set_acquisition_time(minutes[time] + std::to_string(10 + k));
  }));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "acquisition_time");
  EXPECT_THAT(Firsts(EveryTime(study)), ElementsAre(0, 4, 8, 12));
}

TEST(TimePointsTest, PositionsInTimeOfSeveralAcquisitionsFollowTheAcquisitions) {
  const StudySeries study = BuildStudy(Times(6, 4, [](Header& h, std::uint32_t time, std::uint32_t) {
    h.set_acquisition_number(1 + static_cast<int>(time / 3));
    h.set_temporal_position(1 + static_cast<int>(time % 3));
  }));
  EXPECT_EQ(ValueOf(study.series[0].volumes[0], "SPLIT_BY"), "temporal_position,acquisition_number");
  EXPECT_THAT(Firsts(EveryTime(study)), ElementsAre(0, 4, 8, 12, 16, 20));
}

TEST(TimePointsTest, FramesOfAnEnhancedImageAreTimePoints) {
  Instance instance = Slice(0, 0);
  Header& h = instance.header;
  h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.2.1");
  h.set_frames(12);
  for (std::uint32_t n = 0; n < 12; ++n) {
    ipc::v1::FrameHeader& frame = *h.add_frame();
    for (const double value : {10.0, 20.0, 2.5 * (n / 3)}) frame.add_image_position(value);
    for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) frame.add_image_orientation(value);
    for (const double value : {0.5, 0.75}) frame.add_pixel_spacing_mm(value);
    frame.set_rescale_slope(1);
    frame.set_rescale_intercept(-1024);
    const std::uint32_t times[] = {10, 2, 1};
    frame.set_temporal_position(static_cast<int>(times[n % 3]));
  }
  const StudySeries study = BuildStudy({instance});
  const Selection selection = EveryTime(study);
  ASSERT_THAT(selection.volumes, SizeIs(3));
  for (std::uint32_t time = 0; time < 3; ++time)
    EXPECT_EQ(selection.volumes[time]->slices.front().frame, 2 - time);
}

TEST(TimePointsTest, EchoesAreNoTimePoints) {
  const StudySeries study = BuildStudy(Times(6, 4, [](Header& h, std::uint32_t time, std::uint32_t) {
    h.set_echo_time_ms(time % 2 == 0 ? 5 : 10);
    h.set_temporal_position(static_cast<int>(time / 2));
  }));
  ASSERT_THAT(study.series[0].volumes, SizeIs(6));
  const Selection selection = EveryTime(study);
  EXPECT_THAT(Firsts(selection), ElementsAre(0, 8, 16));
  ASSERT_THAT(selection.uses, SizeIs(1));
  EXPECT_EQ(selection.uses[0].reasons(0).text(), "3 of the 6 volumes in its series");
}

TEST(TimePointsTest, WhatDiffersInMoreThanTimeIsNoTimePoint) {
  // Each told from the other by its acquisition number already.
  const auto two = [](const std::function<void(Header&, bool)>& change) {
    return EveryTime(BuildStudy(Times(2, 4,
                                      [&](Header& h, std::uint32_t time, std::uint32_t) {
                                        h.set_acquisition_number(static_cast<int>(time));
                                        change(h, time == 1);
                                      })))
        .time_points();
  };
  EXPECT_EQ(two([](Header&, bool) {}), 2u);
  EXPECT_EQ(two([](Header& h, bool second) { h.set_echo_time_ms(second ? 10 : 5); }), 1u);
  EXPECT_EQ(two([](Header& h, bool second) { h.set_diffusion_b_value(second ? 1000 : 0); }), 1u);
  EXPECT_EQ(two([](Header& h, bool second) { h.add_image_type(second ? "P" : "M"); }), 1u);
  EXPECT_EQ(two([](Header& h, bool second) { h.set_convolution_kernel(second ? "B70f" : "B30f"); }), 1u);
  EXPECT_EQ(two([](Header& h, bool second) { h.set_kvp(second ? 140 : 80); }), 1u);
}

TEST(TimePointsTest, StacksOfTwoMatricesAreNoTimePointsOfEachOther) {
  const StudySeries study = BuildStudy(Times(4, 4, [](Header& h, std::uint32_t time, std::uint32_t k) {
    h.set_temporal_position(static_cast<int>(time % 2));
    if (time < 2) return;
    h.set_rows(8);
    h.set_image_position(2, 100 + 2.5 * k);
  }));
  ASSERT_THAT(study.series[0].volumes, SizeIs(4));
  const Selection selection = EveryTime(study);
  EXPECT_EQ(selection.time_points(), 2u);
  EXPECT_EQ(selection.volumes[0]->geometry, selection.volumes[1]->geometry);
}

TEST(TimePointsTest, AStackWithMoreTimePointsComesFirst) {
  const StudySeries study = BuildStudy(Times(4, 4, [](Header& h, std::uint32_t time, std::uint32_t) {
    h.set_temporal_position(static_cast<int>(time));
    h.add_image_type(time == 0 ? "REFERENCE" : "M");
  }));
  EXPECT_THAT(Firsts(EveryTime(study)), ElementsAre(4, 8, 12));
}

TEST(TimePointsTest, ASingleVolumeIsOneTimePoint) {
  const StudySeries study = BuildStudy(Stack(5));
  const Selection selection = EveryTime(study);
  EXPECT_THAT(selection.volumes, ElementsAre(&study.series[0].volumes[0]));
  EXPECT_EQ(selection.time_points(), 1u);
}

std::vector<Instance> TimesWithout(std::uint32_t index, std::uint32_t slices = 6) {
  std::vector<Instance> all = Times(3, slices, [](Header& h, std::uint32_t time, std::uint32_t) {
    h.set_temporal_position(static_cast<int>(time));
  });
  std::erase_if(all, [&](const Instance& instance) { return instance.index == index; });
  return all;
}

TEST(TimePointsTest, ATimeSeriesWithAHoleIsNotAnalysed) {
  const StudySeries study = BuildStudy(TimesWithout(8));
  const Selection selection = EveryTime(study);
  EXPECT_EQ(Said(selection), "inconclusive: MISSING_SLICES(1)");
  EXPECT_THAT(Uses(selection), ElementsAre("MISSING_SLICES(1)"));
  // One volume is enough for a recipe that takes one.
  EXPECT_THAT(Firsts(Select(CtRecipe(), study)), ElementsAre(0));
  // The recipe may allow it.
  const Selection repaired = EveryTime(study, [](Input& i) { i.set_max_synthetic_slices(1); });
  EXPECT_THAT(Firsts(repaired), ElementsAre(0, 6, 12));
  EXPECT_THAT(repaired.limitations, ElementsAre("MISSING_SLICES(1)"));
  // Another series that is whole is analysed instead, however thick.
  const StudySeries two = BuildStudy(TimesWithout(8) + SeriesOf(2, 6, 5));
  const Selection other = EveryTime(two);
  EXPECT_EQ(other.time_points(), 1u);
  EXPECT_FALSE(other.inconclusive);
  EXPECT_THAT(Uses(other), testing::UnorderedElementsAre("MISSING_SLICES(1)", "analysed"));
}

TEST(TimePointsTest, ATimePointThatLostItsLastSliceIsOnAnotherGrid) {
  const Selection selection = EveryTime(BuildStudy(TimesWithout(11)));
  EXPECT_EQ(Said(selection), "inconclusive: INPUTS_DIFFER(GRID)");
  EXPECT_THAT(Uses(selection), ElementsAre("INPUTS_DIFFER(GRID)"));
}

TEST(TimePointsTest, ATimePointThatMovedIsOnAnotherGrid) {
  const StudySeries study = BuildStudy(Times(3, 4, [](Header& h, std::uint32_t time, std::uint32_t) {
    h.set_temporal_position(static_cast<int>(time));
    if (time == 1) h.set_image_position(0, h.image_position(0) + 1);
  }));
  EXPECT_EQ(Said(EveryTime(study)), "inconclusive: INPUTS_DIFFER(GRID)");
}

TEST(TimePointsTest, EveryTimePointMustFitTheIndication) {
  const auto lossy = [](std::uint32_t from) {
    return BuildStudy(Times(3, 4, [&](Header& h, std::uint32_t time, std::uint32_t) {
      h.set_temporal_position(static_cast<int>(time));
      h.set_lossy(time >= from);
    }));
  };
  EXPECT_EQ(Said(EveryTime(lossy(2))), "inconclusive: LOSSY()");
  EXPECT_EQ(Said(EveryTime(lossy(0))), "not applicable: LOSSY()");
}

TEST(TimePointsTest, ThinnerTimeSeriesOutrankThickerOnes) {
  std::vector<Instance> thin = Times(3, 4, [](Header& h, std::uint32_t time, std::uint32_t k) {
    h.set_temporal_position(static_cast<int>(time));
    h.set_series_instance_uid("1.2.3.5");
    h.set_sop_instance_uid(h.sop_instance_uid() + ".1");
    h.set_image_position(2, 1.0 * k);
  });
  for (Instance& instance : thin) {
    instance.index += 100;
    instance.content_sha256 += "1";
  }
  const StudySeries study = BuildStudy(TimesWithout(99) + thin);
  const Selection selection = EveryTime(study);
  EXPECT_THAT(Firsts(selection), ElementsAre(100, 104, 108));
  EXPECT_THAT(Uses(selection), testing::UnorderedElementsAre("analysed", "OUTRANKED(SLICE_SPACING)"));
}

}  // namespace
}  // namespace tomoserve::series
