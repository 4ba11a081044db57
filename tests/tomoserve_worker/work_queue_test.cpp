// In which order tasks of several urgencies are carried out.
#include "apps/tomoserve_worker/work_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace tomoserve::worker {
namespace {

using ::testing::ElementsAre;

class WorkQueueTest : public ::testing::Test {
 protected:
  // A task that says its name.
  void Post(const std::string& name, std::uint32_t urgency) {
    queue_->Post(name, urgency, [this, name] { Say(name); });
  }
  void Say(const std::string& name) {
    const std::lock_guard lock(mutex_);
    said_.push_back(name);
  }
  std::vector<std::string> Said() {
    const std::lock_guard lock(mutex_);
    return said_;
  }
  // A task that is at work until `go`.
  void PostLong(std::uint32_t urgency, std::latch& go) {
    std::latch begun(1);
    queue_->Post("long", urgency, [&] {
      begun.count_down();
      go.wait();
    });
    begun.wait();
  }
  // Waits for a task that comes after all others.
  void AwaitAll() {
    std::latch done(1);
    queue_->Post("last", 0, [&] { done.count_down(); });
    done.wait();
  }

  std::mutex mutex_;
  std::vector<std::string> said_;  // guarded by mutex_
  std::optional<WorkQueue> queue_{std::in_place, 4};
};

TEST_F(WorkQueueTest, TheMostUrgentComesFirstAndEqualOnesInTheirOrder) {
  std::latch go(1);
  PostLong(9, go);
  Post("b1", 2);
  Post("c", 1);
  Post("a", 3);
  Post("b2", 2);
  Post("b3", 2);
  go.count_down();
  AwaitAll();
  EXPECT_THAT(Said(), ElementsAre("a", "b1", "b2", "b3", "c"));
}

TEST_F(WorkQueueTest, AMoreUrgentTaskDoesNotWaitForTheOneAtWork) {
  std::latch go(1);
  PostLong(1, go);
  Post("equal", 1);
  std::latch overtakes(1);
  queue_->Post("urgent", 2, [&] {
    Say("urgent");
    overtakes.count_down();
  });
  overtakes.wait();
  EXPECT_THAT(Said(), ElementsAre("urgent"));
  go.count_down();
  AwaitAll();
  EXPECT_THAT(Said(), ElementsAre("urgent", "equal"));
}

TEST_F(WorkQueueTest, AnUpdateMovesATaskThatWaits) {
  std::latch go(1);
  PostLong(9, go);
  Post("a", 3);
  Post("b", 2);
  Post("c", 1);
  Post("d", 1);
  queue_->Update("c", 3);       // up, after those that are as urgent
  queue_->Update("a", 1);       // down
  queue_->Update("b", 2);       // none
  queue_->Update("nobody", 8);  // unknown
  go.count_down();
  AwaitAll();
  EXPECT_THAT(Said(), ElementsAre("c", "b", "d", "a"));
}

TEST_F(WorkQueueTest, AnUpdateLetsATaskOvertakeTheOneAtWork) {
  std::latch go(1);
  PostLong(1, go);
  std::latch overtakes(1);
  queue_->Post("moved", 1, [&] { overtakes.count_down(); });
  queue_->Update("moved", 2);
  overtakes.wait();
  go.count_down();
  queue_.reset();
}

TEST_F(WorkQueueTest, ItsEndDropsWhatWaitsAndAwaitsWhatIsAtWork) {
  std::latch go(1);
  PostLong(1, go);
  const auto held = std::make_shared<int>(0);
  queue_->Post("waits", 1, [this, held] { Say("waits"); });
  std::jthread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Say("long");
    go.count_down();
  });
  queue_.reset();
  EXPECT_THAT(Said(), ElementsAre("long"));
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace tomoserve::worker
