#include "dispatch/run_times.h"

#include <gtest/gtest.h>

#include <limits>
#include <utility>
#include <vector>

namespace tomoserve::dispatch {
namespace {

ipc::v1::RunDone Done(double prepare_ms, double forward_ms, double labels_ms) {
  ipc::v1::RunDone done;
  done.set_windows(1);
  const std::vector<std::pair<const char*, double>> stages = {
      {"prepare", prepare_ms}, {"forward", forward_ms}, {"labels", labels_ms}};
  for (const auto& [stage, ms] : stages) {
    v1::StageTiming& timing = *done.add_timings();
    timing.set_stage(stage);
    timing.set_ms(ms);
  }
  return done;
}

TEST(RunTimesTest, ARunPredictsTheSameRunAndOnesOfOtherSizes) {
  const RunWork work{.windows = 7, .voxels = 1000};
  const auto time = TimeOf(Done(30, 800, 20), work, 2);
  ASSERT_TRUE(time.has_value());
  EXPECT_NEAR(time->ms_per_round, 200, 1e-9) << "two lanes need four rounds for seven windows";
  EXPECT_NEAR(SecondsOf(*time, work, 2), 0.85, 1e-9);
  EXPECT_NEAR(SecondsOf(*time, {.windows = 14, .voxels = 2000}, 2), 7 * 0.2 + 0.1, 1e-9);
}

TEST(RunTimesTest, ALargerWindowTakesLonger) {
  const auto time = TimeOf(Done(0, 800, 0), {.windows = 1, .voxels = 1, .window_ratio = 4}, 1);
  ASSERT_TRUE(time.has_value());
  EXPECT_NEAR(SecondsOf(*time, {.windows = 1, .voxels = 1, .window_ratio = 2}, 1), 0.4, 1e-9);
}

TEST(RunTimesTest, WhatCannotBeIsNotLearnt) {
  const RunWork work{.windows = 1, .voxels = 1};
  EXPECT_FALSE(TimeOf(Done(1, -1, 1), work, 1).has_value());
  EXPECT_FALSE(TimeOf(Done(1, 1e18, 1), work, 1).has_value());
  EXPECT_FALSE(TimeOf(Done(std::numeric_limits<double>::quiet_NaN(), 1, 1), work, 1).has_value());
  EXPECT_FALSE(TimeOf(Done(1, 0, 1), work, 1).has_value());
  EXPECT_FALSE(TimeOf(Done(1, 1, 1), {}, 1).has_value()) << "nothing was predicted of it";
}

TEST(RunTimesTest, OneOddRunDoesNotDecide) {
  RunTimes times;
  EXPECT_FALSE(times.Find("m", "cpu").has_value());
  times.Learn("m", "cpu", {.ms_per_round = 100, .ms_per_voxel = 1});
  times.Learn("m", "cpu", {.ms_per_round = 300, .ms_per_voxel = 1});
  EXPECT_NEAR(times.Find("m", "cpu")->ms_per_round, 150, 1e-9);
  EXPECT_NEAR(times.Find("m", "cpu")->ms_per_voxel, 1, 1e-9);
  for (int n = 0; n < 40; ++n) times.Learn("m", "cpu", {.ms_per_round = 300, .ms_per_voxel = 1});
  EXPECT_NEAR(times.Find("m", "cpu")->ms_per_round, 300, 1) << "what stays so is believed";
  EXPECT_FALSE(times.Find("m", "cuda").has_value()) << "another kind of device";
}

}  // namespace
}  // namespace tomoserve::dispatch
