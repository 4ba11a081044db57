#include "executor/window_queue.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "executor/virtual_device.h"

namespace tomoserve::executor {
namespace {

// Runs are named by letters; a batch reads "aab/4": two windows of a, one of b, in a bucket of 4.
class WindowQueueTest : public ::testing::Test {
 protected:
  void Add(char name, Batcher& model, std::uint32_t urgency, std::uint32_t windows,
           std::optional<double> deadline_ms = {}) {
    queue_.Add({.key = static_cast<RunKey>(name),
                .batcher = &model,
                .urgency = urgency,
                .deadline_ms = deadline_ms,
                .submitted_ms = now_ms_,
                .windows = windows});
  }
  void Fold(char name, int windows = 1) {
    for (int i = 0; i < windows; ++i) queue_.Folded(static_cast<RunKey>(name), now_ms_);
  }
  // Takes a batch and folds its windows at once.
  std::string Next() {
    const std::string batch = Begin();
    for (const char name : batch.substr(0, batch.find('/'))) Fold(name);
    return batch;
  }
  // Takes `batches` batches over `ms`, one at the end of each step; their leaders.
  std::string RunFor(double ms, int batches) {
    std::string leaders;
    const double begin_ms = now_ms_;
    for (int i = 1; i <= batches; ++i) {
      now_ms_ = begin_ms + ms * i / batches;
      leaders += Next()[0];
    }
    return leaders;
  }
  // Takes a batch and folds none.
  std::string Begin() {
    const std::optional<WindowBatch> batch = queue_.Next(now_ms_);
    if (!batch) return "";
    queue_.Computed(*batch, batch->batcher->window_ms() * batch->bucket);
    std::string text;
    for (const WindowBatch::Window& window : batch->windows) text += static_cast<char>(window.run);
    return text + "/" + std::to_string(batch->bucket);
  }

  double now_ms_ = 0;
  WindowQueue queue_{8};
  Batcher one_{{1}, 10}, other_{{1}, 10}, four_{{1, 2, 4}, 10};
};

TEST_F(WindowQueueTest, IsEmptyAtFirstAndAtTheEnd) {
  EXPECT_EQ(Next(), "");
  Add('a', one_, kRoutine, 2);
  Add('z', one_, kRoutine, 0);
  EXPECT_EQ(Next(), "a/1");
  EXPECT_EQ(Next(), "a/1");
  EXPECT_EQ(Next(), "");
}

TEST_F(WindowQueueTest, OrdersByClassThenDeadlineThenAge) {
  Add('o', one_, kOffPeak, 1, 1);
  Add('a', one_, kRoutine, 1);
  Add('b', one_, kRoutine, 1);
  Add('l', one_, kRoutine, 1, 5000);
  Add('e', one_, kRoutine, 1, 2000);
  Add('u', one_, kUrgent, 1, 9000);
  Add('s', one_, kStat, 1);
  std::string order;
  for (int i = 0; i < 7; ++i) order += Next()[0];
  EXPECT_EQ(order, "suelabo");
}

TEST_F(WindowQueueTest, FollowsARunsNewClassAndDeadline) {
  Add('a', one_, kRoutine, 2, 3000);
  Add('b', one_, kRoutine, 2, 2000);
  EXPECT_EQ(Next(), "b/1");
  queue_.Update('a', kRoutine, 1000);
  EXPECT_EQ(Next(), "a/1");
  queue_.Update('b', kStat, std::nullopt);
  EXPECT_EQ(Next(), "b/1");
  queue_.Update('b', kStat, std::nullopt);  // is gone
  EXPECT_EQ(Next(), "a/1");
  EXPECT_EQ(Next(), "");
}

TEST_F(WindowQueueTest, FillsABatchWithTheModelsOtherRunsInOrderOfUrgency) {
  Add('o', four_, kOffPeak, 9);
  Add('x', other_, kRoutine, 9);
  Add('r', four_, kRoutine, 1);
  Add('u', four_, kUrgent, 1);
  Add('s', four_, kStat, 1);
  EXPECT_EQ(Next(), "suro/4");
}

TEST_F(WindowQueueTest, TakesTheSmallestBucketThatHoldsWhatIsThere) {
  Add('a', four_, kRoutine, 1);
  EXPECT_EQ(Next(), "a/1");
  Add('a', four_, kRoutine, 6);
  EXPECT_EQ(Next(), "aaaa/4");
  EXPECT_EQ(Next(), "aa/2");
  Add('a', four_, kRoutine, 3);
  EXPECT_EQ(Next(), "aaa/4");
  Batcher only_four({4}, 10);
  Add('b', only_four, kRoutine, 1);
  EXPECT_EQ(Next(), "b/4");
}

TEST_F(WindowQueueTest, BoundsWhatIsBegunAndNotFolded) {
  Batcher sixteen({1, 2, 4, 8, 16}, 10);
  Add('a', sixteen, kStat, 20);
  Add('b', sixteen, kRoutine, 2);
  EXPECT_EQ(Begin(), "aaaaaaaaabb/16");
  EXPECT_EQ(Begin(), "");
  Fold('a', 2);
  EXPECT_EQ(Begin(), "aa/2");
}

TEST_F(WindowQueueTest, ARemovedRunGivesNoMoreWindows) {
  Add('a', four_, kStat, 9);
  Add('b', four_, kRoutine, 9);
  EXPECT_EQ(Next(), "aaaa/4");
  queue_.Remove('a');
  queue_.Remove('?');
  Fold('a');
  EXPECT_EQ(Next(), "bbbb/4");
}

TEST_F(WindowQueueTest, AStatRunEntersTheNextBatchOfWhicheverModel) {
  Add('r', four_, kRoutine, 50);
  EXPECT_EQ(Next(), "rrrr/4");
  Add('s', four_, kStat, 2);
  EXPECT_EQ(Next(), "ssrr/4");
  Add('t', other_, kStat, 1);
  EXPECT_EQ(Next(), "t/1");
  EXPECT_EQ(Next(), "rrrr/4");
}

TEST_F(WindowQueueTest, ModelsOfOneClassTakeTurnsByCost) {
  Batcher fast({1}, 10), slow({1}, 40);
  Add('f', fast, kRoutine, 100);
  Add('s', slow, kRoutine, 100);
  Add('u', fast, kUrgent, 3);
  std::string order;
  for (int i = 0; i < 13; ++i) order += Next()[0];
  // What the fast model got in another class does not count here.
  EXPECT_EQ(order, "uuufsffffsfff");
}

TEST_F(WindowQueueTest, ARisenRunLeadsOneBatchInSixteen) {
  Add('o', one_, kOffPeak, 5);
  Add('r', other_, kRoutine, 1000);
  EXPECT_EQ(RunFor(kRiseMs, 40), std::string(39, 'r') + "o");
  EXPECT_EQ(RunFor(kRiseMs, 40), std::string(39, 'r') + "o") << "its wait begins anew";
  EXPECT_EQ(RunFor(kRiseMs, 10), std::string(10, 'r'));
  EXPECT_EQ(RunFor(100, 7), "rrrrror");
}

TEST_F(WindowQueueTest, ARisenRunTakesASixteenthOfTheTimeHoweverLongItsWindows) {
  Batcher slow({1}, 40);
  Add('o', slow, kOffPeak, 5);
  Add('r', other_, kRoutine, 1000);
  EXPECT_EQ(RunFor(kRiseMs, 20), std::string(19, 'r') + "o");
  EXPECT_EQ(RunFor(kRiseMs, 40), std::string(40, 'r'));
  EXPECT_EQ(RunFor(100, 21), std::string(20, 'r') + "o");
}

TEST_F(WindowQueueTest, ARunRisesOneClassAtATime) {
  Add('o', one_, kOffPeak, 5);
  Add('s', other_, kStat, 1000);
  EXPECT_EQ(RunFor(3 * kRiseMs, 60), std::string(59, 's') + "o");
}

TEST_F(WindowQueueTest, ARisenRunOvertakesEarlierDeadlinesOfItsClass) {
  Add('r', one_, kRoutine, 5);
  Add('d', one_, kRoutine, 1000, 1);
  EXPECT_EQ(RunFor(kRiseMs, 20), std::string(19, 'd') + "r");
}

TEST_F(WindowQueueTest, ARisenRunIsSureOfOneWindowOnly) {
  Add('r', four_, kRoutine, 100);
  Add('s', four_, kStat, 1000);
  EXPECT_EQ(RunFor(2 * kRiseMs - 1, 20), std::string(20, 's'));
  now_ms_ += 1;
  EXPECT_EQ(Next(), "rsss/4");
}

TEST_F(WindowQueueTest, ARunThatWaitsForItsFoldsDoesNotRise) {
  Add('r', one_, kRoutine, 100);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(Begin(), "r/1");
  EXPECT_EQ(Begin(), "");
  Add('s', other_, kStat, 1000);
  EXPECT_EQ(RunFor(9 * kRiseMs, 20), std::string(20, 's'));
  Fold('r');
  EXPECT_EQ(RunFor(2 * kRiseMs, 20), std::string(19, 's') + "r");
}

}  // namespace
}  // namespace tomoserve::executor
