// Batches of several jobs' windows on real lanes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "executor/forward_slots.h"
#include "executor/test_job.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"
#include "tomoserve/executor/executor.h"

namespace tomoserve::executor {
namespace {

using ::testing::ElementsAre;

// Each slot by its job's Forward; records what came, and may fail as a whole.
class TestBatcher final : public Batcher {
 public:
  using Pass = std::function<absl::Status(std::span<Slot>)>;
  explicit TestBatcher(std::vector<std::uint32_t> buckets, Pass pass = {})
      : Batcher(std::move(buckets)), pass_(std::move(pass)) {}

  absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane) override {
    sizes_.push_back(slots.size());
    buckets_.push_back(bucket);
    if (pass_) {
      if (absl::Status status = pass_(slots); !status.ok()) return status;
    }
    return Batcher::Forward(slots, bucket, lane);
  }
  void FreeMemory() override { ++freed; }

  // With one lane, or when all is finished.
  std::vector<std::size_t> sizes() const { return sizes_; }
  std::vector<std::uint32_t> buckets() const { return buckets_; }
  int freed = 0;

 private:
  const Pass pass_;
  std::vector<std::size_t> sizes_;
  std::vector<std::uint32_t> buckets_;
};

// Holds the only lane until released, so that what was submitted meanwhile is there at once.
class BatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    executor_->Submit(std::make_shared<TestJob>(1,
                                                [this](std::uint32_t) {
                                                  held_.set_value();
                                                  release_.get_future().wait();
                                                  return absl::OkStatus();
                                                }),
                      blocker_.Options("blocker", 1000));
    held_.get_future().wait();
  }
  void Submit(std::shared_ptr<Job> job, std::shared_ptr<Batcher> batcher, JobOptions options) {
    options.batcher = std::move(batcher);
    executor_->Submit(std::move(job), std::move(options));
  }
  void Release() { release_.set_value(); }

  std::promise<void> held_;
  std::promise<void> release_;
  Outcome blocker_, a_, b_, c_;
  std::unique_ptr<Executor> executor_ = Executor::Create(1, 8);
};

TEST_F(BatchTest, IsFilledByTheRunsOfItsModel) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{1u, 2u, 4u});
  const auto a = std::make_shared<TestJob>(3), b = std::make_shared<TestJob>(4);
  Submit(a, batcher, a_.Options("a"));
  Submit(b, batcher, b_.Options("b"));
  Submit(std::make_shared<TestJob>(2), nullptr, c_.Options("c"));
  Release();
  for (Outcome* outcome : {&a_, &b_, &c_}) EXPECT_TRUE(outcome->Wait().ok());
  EXPECT_THAT(batcher->sizes(), ElementsAre(4, 3));
  EXPECT_THAT(batcher->buckets(), ElementsAre(4, 4));
  EXPECT_EQ(a->folded(), Range(3));
  EXPECT_EQ(b->folded(), Range(4));

  const Counters counters = executor_->counters();
  EXPECT_EQ(counters.batches, 5u);
  EXPECT_EQ(counters.windows, 10u);
  EXPECT_EQ(counters.slots, 11u);
  EXPECT_EQ(counters.retried_batches, 0u);
  EXPECT_EQ(executor_->windows_done(), 10u);
}

TEST_F(BatchTest, ABucketOfOneIsTheJobsOwnForward) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{1u, 2u});
  Submit(std::make_shared<TestJob>(3), batcher, a_.Options("a"));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  EXPECT_THAT(batcher->sizes(), ElementsAre(2));
}

TEST_F(BatchTest, AStatRunEntersTheNextBatch) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{1u, 2u});
  std::string order;
  Submit(std::make_shared<TestJob>(6,
                                   [&](std::uint32_t index) {
                                     order += 'r';
                                     if (index == 0) {
                                       Submit(std::make_shared<TestJob>(3,
                                                                        [&](std::uint32_t) {
                                                                          order += 's';
                                                                          return absl::OkStatus();
                                                                        }),
                                              batcher, b_.Options("stat", 3));
                                     }
                                     return absl::OkStatus();
                                   }),
         batcher, a_.Options("routine", 1));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(order, "rrsssrrrr");
}

TEST_F(BatchTest, WithinAClassTheEarliestDeadlineIsFirst) {
  std::string order;
  const auto submit = [&](char name, std::optional<double> deadline_ms, Outcome& outcome) {
    JobOptions options = outcome.Options({name}, 1);
    options.deadline_ms = deadline_ms;
    executor_->Submit(std::make_shared<TestJob>(1,
                                                [&order, name](std::uint32_t) {
                                                  order += name;
                                                  return absl::OkStatus();
                                                }),
                      std::move(options));
  };
  submit('n', std::nullopt, a_);
  submit('l', base::MonotonicMs() + 9000, b_);
  submit('e', base::MonotonicMs() + 1000, c_);
  Release();
  for (Outcome* outcome : {&a_, &b_, &c_}) EXPECT_TRUE(outcome->Wait().ok());
  EXPECT_EQ(order, "eln");
}

TEST_F(BatchTest, AWindowsOwnErrorEndsItsRunOnly) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{1u, 2u, 4u});
  const auto good = std::make_shared<TestJob>(6);
  Submit(std::make_shared<TestJob>(2,
                                   [](std::uint32_t index) {
                                     return index == 1 ? base::Error(absl::StatusCode::kInternal,
                                                                     "NON_FINITE_OUTPUT", "1", "window 1")
                                                       : absl::OkStatus();
                                   }),
         batcher, a_.Options("bad"));
  Submit(good, batcher, b_.Options("good"));
  Release();
  EXPECT_EQ(base::ReasonOf(a_.Wait()), "NON_FINITE_OUTPUT");
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(good->forwarded(), Range(6)) << "no window twice";
  EXPECT_EQ(executor_->counters().retried_batches, 0u);
}

TEST(ForwardSlotsTest, AWindowThatFailedLeavesNoOutput) {
  class FirstFails final : public Batcher {
   public:
    FirstFails() : Batcher({4}) {}
    absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane) override {
      absl::Status status = Batcher::Forward(slots, bucket, lane);
      slots[0].status = absl::InternalError("the first");
      return status;
    }
  };
  FirstFails batcher;
  TestJob job(2);
  std::vector<Batcher::Slot> slots(2);
  for (std::uint32_t i = 0; i < 2; ++i) {
    slots[i].job = &job;
    slots[i].window = i;
  }
  EXPECT_FALSE(ForwardSlots(batcher, slots, 0));
  EXPECT_FALSE(slots[0].status.ok());
  EXPECT_EQ(slots[0].output, nullptr);
  EXPECT_TRUE(slots[1].status.ok());
  EXPECT_NE(slots[1].output, nullptr);
}

TEST_F(BatchTest, ABatchThatFailsIsTriedWindowByWindow) {
  const auto bad = std::make_shared<TestJob>(2, [](std::uint32_t) { return absl::InternalError("alone"); });
  const auto batcher = std::make_shared<TestBatcher>(
      std::vector{1u, 2u, 4u}, [&](std::span<Batcher::Slot> slots) -> absl::Status {
        if (std::none_of(slots.begin(), slots.end(), [&](const auto& slot) { return slot.job == bad.get(); }))
          return absl::OkStatus();
        return absl::InternalError("the whole batch");
      });
  const auto good = std::make_shared<TestJob>(6);
  Submit(bad, batcher, a_.Options("bad"));
  Submit(good, batcher, b_.Options("good"));
  Release();
  EXPECT_EQ(a_.Wait().message(), "alone");
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(good->folded(), Range(6));
  EXPECT_EQ(executor_->counters().retried_batches, 1u);
}

TEST_F(BatchTest, AnExceptionOfABatchEndsNoRun) {
  const auto batcher = std::make_shared<TestBatcher>(
      std::vector{1u, 2u, 4u},
      [](std::span<Batcher::Slot>) -> absl::Status { throw std::runtime_error("always"); });
  Submit(std::make_shared<TestJob>(3), batcher, a_.Options("a"));
  Submit(std::make_shared<TestJob>(3), batcher, b_.Options("b"));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(executor_->counters().retried_batches, 2u);
}

TEST_F(BatchTest, OutOfMemoryIsTriedAgainInTheSameBucket) {
  int passes = 0;
  const auto batcher =
      std::make_shared<TestBatcher>(std::vector{1u, 4u}, [&](std::span<Batcher::Slot>) -> absl::Status {
        if (++passes == 1) throw std::bad_alloc();
        return passes == 2 ? absl::OkStatus() : base::OutOfMemory("", "a batch");
      });
  const auto job = std::make_shared<TestJob>(8);
  Submit(job, batcher, a_.Options("a"));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  // The second batch never fits: twice, and then its windows alone.
  EXPECT_THAT(batcher->buckets(), ElementsAre(4, 4, 4, 4));
  EXPECT_EQ(batcher->freed, 2);
  EXPECT_EQ(job->forwarded(), Range(8));
  EXPECT_EQ(executor_->counters().retried_batches, 1u);
}

TEST_F(BatchTest, OutOfMemoryOfALoneWindowIsTriedAgain) {
  bool first = true;
  const auto batcher =
      std::make_shared<TestBatcher>(std::vector{4u}, [&](std::span<Batcher::Slot>) -> absl::Status {
        return std::exchange(first, false) ? base::OutOfMemory("", "a batch") : absl::OkStatus();
      });
  Submit(std::make_shared<TestJob>(1), batcher, a_.Options("a"));
  const auto own = std::make_shared<TestJob>(1, [calls = 0](std::uint32_t) mutable -> absl::Status {
    if (++calls == 1) throw std::bad_alloc();
    return absl::OkStatus();
  });
  Submit(own, nullptr, b_.Options("b"));
  const auto never = std::make_shared<TestJob>(
      1, [](std::uint32_t) -> absl::Status { return base::OutOfMemory("", "a window"); });
  Submit(never, nullptr, c_.Options("c"));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  EXPECT_EQ(batcher->freed, 1);
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(base::ReasonOf(c_.Wait()), "OUT_OF_MEMORY");
  EXPECT_EQ(never->forwarded().size(), 2u);
  EXPECT_EQ(executor_->counters().retried_batches, 0u);
}

TEST_F(BatchTest, WhereNoBucketOfOneIsAllowedAWindowIsTriedInABatchOfItsOwn) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{4u}, [](std::span<Batcher::Slot> slots) {
    return slots.size() > 1 ? absl::InternalError("several") : absl::OkStatus();
  });
  Submit(std::make_shared<TestJob>(3), batcher, a_.Options("a"));
  Release();
  EXPECT_TRUE(a_.Wait().ok());
  EXPECT_THAT(batcher->sizes(), ElementsAre(3, 1, 1, 1));
  EXPECT_THAT(batcher->buckets(), ElementsAre(4, 4, 4, 4));
}

TEST_F(BatchTest, ACancelledRunsMatesGoOn) {
  const auto batcher = std::make_shared<TestBatcher>(std::vector{1u, 2u, 4u}, [&](std::span<Batcher::Slot>) {
    executor_->Cancel("a");
    return absl::OkStatus();
  });
  const auto a = std::make_shared<TestJob>(50), b = std::make_shared<TestJob>(6);
  Submit(a, batcher, a_.Options("a", 1));
  Submit(b, batcher, b_.Options("b", 0));
  Release();
  EXPECT_TRUE(absl::IsCancelled(a_.Wait()));
  EXPECT_TRUE(b_.Wait().ok());
  EXPECT_EQ(a->forwarded().size(), 4u);
  EXPECT_TRUE(a->folded().empty());
}

TEST(BatchOnTwoLanesTest, ARunsEndDoesNotWaitForItsMatesFolds) {
  const auto batcher = std::make_shared<Batcher>(std::vector{10u});
  Outcome blocker, many, one;
  std::latch held(2);
  std::promise<void> release, ended;
  const auto executor = Executor::Create(2, 8);
  executor->Submit(std::make_shared<TestJob>(2,
                                             [&, go = release.get_future().share()](std::uint32_t) {
                                               held.count_down();
                                               go.wait();
                                               return absl::OkStatus();
                                             }),
                   blocker.Options("blocker", 1000));
  held.wait();
  JobOptions options = many.Options("many", 1);
  options.batcher = batcher;
  // Windows 0 to 8 share a batch with the other run's only one. While 2 is folded the other lane computes 9.
  executor->Submit(std::make_shared<TestJob>(
                       10, TestJob::Step{},
                       [&](std::uint32_t index) -> absl::Status {
                         for (int ms = 0; index == 2 && ms < 10'000; ++ms) {
                           if (executor->windows_done() >= 2 + 10 + 1) break;
                           std::this_thread::sleep_for(1ms);
                         }
                         if (index < 9 || ended.get_future().wait_for(10s) == std::future_status::ready)
                           return absl::OkStatus();
                         return absl::DeadlineExceededError("the other run never ended");
                       }),
                   options);
  options = one.Options("one", 0);
  options.batcher = batcher;
  options.finished = [&, told = options.finished](absl::Status status) {
    told(std::move(status));
    ended.set_value();
  };
  executor->Submit(std::make_shared<TestJob>(1), options);
  release.set_value();
  EXPECT_TRUE(one.Wait().ok());
  EXPECT_EQ(many.Wait(), absl::OkStatus());
  EXPECT_TRUE(blocker.Wait().ok());
}

TEST_F(BatchTest, CountsWaitsByClassAndBusyLanes) {
  Submit(std::make_shared<TestJob>(2), nullptr, a_.Options("a", 1));
  std::this_thread::sleep_for(20ms);
  Submit(std::make_shared<TestJob>(2), nullptr, b_.Options("b", 3));
  Submit(std::make_shared<TestJob>(2), nullptr, c_.Options("c", 3));
  Release();
  for (Outcome* outcome : {&a_, &b_, &c_}) EXPECT_TRUE(outcome->Wait().ok());
  const Counters counters = executor_->counters();
  ASSERT_EQ(counters.lane_busy_ms.size(), 1u);
  EXPECT_GE(counters.lane_busy_ms[0], 20);
  const Counters::Wait& routine = counters.first_window_wait.at(1);
  EXPECT_EQ(routine.runs, 1u);
  EXPECT_GE(routine.sum_ms, 20);
  EXPECT_EQ(routine.longest_ms, routine.sum_ms);
  EXPECT_EQ(counters.first_window_wait.at(3).runs, 2u);
}

}  // namespace
}  // namespace tomoserve::executor
