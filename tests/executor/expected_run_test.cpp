// A lane is kept for a more urgent run that is being prepared.
#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <optional>

#include "executor/test_job.h"
#include "executor/virtual_device.h"
#include "executor/window_queue.h"

namespace tomoserve::executor {
namespace {

class ExpectedRunTest : public ::testing::Test {
 protected:
  void Add(RunKey key, std::uint32_t urgency, std::uint32_t windows = 8) {
    queue_.Add({.key = key,
                .batcher = &model_,
                .urgency = urgency,
                .deadline_ms = {},
                .submitted_ms = now_ms_,
                .windows = windows});
  }
  // The run whose window the lane begins at `now_ms`, folded at once; nothing: it begins none.
  std::optional<RunKey> Next(double now_ms, std::uint32_t lane = 0) {
    now_ms_ = now_ms;
    const std::optional<WindowBatch> batch = queue_.Next(now_ms, lane);
    if (!batch) return std::nullopt;
    queue_.Folded(batch->windows.front().run, now_ms);
    return batch->windows.front().run;
  }

  static constexpr RunKey kRoutineRun = 1, kStatRun = 2, kOther = 3;
  double now_ms_ = 0;
  WindowQueue queue_{8};
  Batcher model_{{1}, 10};
};

TEST_F(ExpectedRunTest, FindsALaneFree) {
  Add(kRoutineRun, kRoutine);
  EXPECT_EQ(Next(0), kRoutineRun);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(10), std::nullopt);
  EXPECT_EQ(queue_.held_until_ms(), 20);
  queue_.Arrived(kStatRun);
  Add(kStatRun, kStat, 1);
  EXPECT_EQ(Next(13), kStatRun);
  EXPECT_EQ(Next(23), kRoutineRun);
  EXPECT_EQ(queue_.held_until_ms(), std::nullopt);
}

TEST_F(ExpectedRunTest, IsWaitedForNoLongerThanAWindowTakes) {
  Add(kRoutineRun, kRoutine);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(5), std::nullopt);
  EXPECT_EQ(Next(14.9), std::nullopt);
  EXPECT_EQ(Next(15), kRoutineRun);
  EXPECT_EQ(Next(25), kRoutineRun) << "the lane is held once";
}

TEST_F(ExpectedRunTest, HoldsOneLane) {
  Add(kRoutineRun, kRoutine);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(0, 1), std::nullopt);
  EXPECT_EQ(Next(0, 0), kRoutineRun);
  EXPECT_EQ(Next(1, 1), std::nullopt);
  queue_.Expect(kOther, kStat);
  EXPECT_EQ(Next(2, 0), std::nullopt) << "two runs, two lanes";
}

TEST_F(ExpectedRunTest, ThatCameTooLateDoesNotHideTheNextOne) {
  Add(kRoutineRun, kRoutine);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(0), std::nullopt);
  EXPECT_EQ(Next(10), kRoutineRun);
  queue_.Expect(kOther, kStat);
  EXPECT_EQ(Next(20), std::nullopt);
  EXPECT_EQ(queue_.held_until_ms(), 30);
}

TEST_F(ExpectedRunTest, HoldsNothingAsUrgentAsItself) {
  Add(kRoutineRun, kStat);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(0), kRoutineRun);
}

TEST_F(ExpectedRunTest, HoldsNothingOnceItIsLessUrgent) {
  Add(kRoutineRun, kRoutine);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(0), std::nullopt);
  queue_.Update(kStatRun, kRoutine, std::nullopt);
  EXPECT_EQ(Next(1), kRoutineRun);
}

TEST_F(ExpectedRunTest, DoesNotHoldARunThatHasWaitedLong) {
  Add(kRoutineRun, kRoutine);
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(3 * kRiseMs), kRoutineRun);
}

TEST_F(ExpectedRunTest, HoldsNothingWhoseCostIsNotKnown) {
  Batcher unmeasured;
  queue_.Add({.key = kOther, .batcher = &unmeasured, .urgency = kRoutine, .deadline_ms = {}, .windows = 1});
  queue_.Expect(kStatRun, kStat);
  EXPECT_EQ(Next(0), kOther);
}

// With threads and the real clock: the lane waits for the run instead of a window of five seconds.
TEST_F(ExpectedRunTest, IsComputedBeforeTheWindowsThatTheLaneLeavesAlone) {
  const auto slow = std::make_shared<Batcher>(std::vector<std::uint32_t>{1}, 5000);
  const auto executor = Executor::Create(1, 1);
  std::latch first_begun(1), may_end(1);
  const auto routine = std::make_shared<TestJob>(2, [&](std::uint32_t index) {
    if (index > 0) return absl::OkStatus();
    first_begun.count_down();
    may_end.wait();
    return absl::OkStatus();
  });
  std::uint32_t routine_windows_before = 99;
  const auto stat = std::make_shared<TestJob>(1, [&](std::uint32_t) {
    routine_windows_before = static_cast<std::uint32_t>(routine->forwarded().size());
    return absl::OkStatus();
  });
  Outcome routine_outcome, stat_outcome;
  JobOptions options = routine_outcome.Options("routine");
  options.urgency = kRoutine;
  options.batcher = slow;
  executor->Submit(routine, options);
  first_begun.wait();
  executor->Expect("stat", kStat);
  may_end.count_down();
  std::this_thread::sleep_for(100ms);
  options = stat_outcome.Options("stat");
  options.urgency = kStat;
  options.batcher = slow;
  executor->Submit(stat, options);
  EXPECT_TRUE(stat_outcome.Wait().ok());
  EXPECT_TRUE(routine_outcome.Wait().ok());
  EXPECT_EQ(routine_windows_before, 1u);
}

TEST_F(ExpectedRunTest, ThatIsCancelledHoldsNothing) {
  const auto slow = std::make_shared<Batcher>(std::vector<std::uint32_t>{1}, 1e9);
  const auto executor = Executor::Create(1, 1);
  executor->Expect("stat", kStat);
  const auto routine = std::make_shared<TestJob>(2);
  Outcome outcome;
  JobOptions options = outcome.Options("routine");
  options.urgency = kRoutine;
  options.batcher = slow;
  executor->Submit(routine, options);
  executor->Cancel("stat");
  EXPECT_TRUE(outcome.Wait().ok());
}

}  // namespace
}  // namespace tomoserve::executor
