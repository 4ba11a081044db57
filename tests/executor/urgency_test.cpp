#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "executor/test_job.h"
#include "tomoserve/base/status.h"
#include "tomoserve/executor/executor.h"

namespace tomoserve::executor {
namespace {

// Holds the only lane until released, then records the order in which windows run.
class UrgencyTest : public ::testing::Test {
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
  std::shared_ptr<TestJob> Recorder(char name, std::uint32_t windows) {
    return std::make_shared<TestJob>(windows, [this, name](std::uint32_t) {
      order_.push_back(name);  // one lane
      return absl::OkStatus();
    });
  }
  void Release() { release_.set_value(); }

  std::string order_;
  std::promise<void> held_;
  std::promise<void> release_;
  Outcome blocker_;
  std::unique_ptr<Executor> executor_ = Executor::Create(1, 2);
};

TEST_F(UrgencyTest, MostUrgentFirstThenFirstComeFirstServed) {
  Outcome a, b, c, d;
  executor_->Submit(Recorder('a', 2), a.Options("a", 1));
  executor_->Submit(Recorder('b', 2), b.Options("b", 5));
  executor_->Submit(Recorder('c', 2), c.Options("c", 5));
  executor_->Submit(Recorder('d', 2), d.Options("d", 9));
  Release();
  for (Outcome* outcome : {&a, &b, &c, &d}) EXPECT_TRUE(outcome->Wait().ok());
  EXPECT_EQ(order_, "ddbbccaa");
}

TEST_F(UrgencyTest, AnUrgentJobOvertakesBetweenTwoWindows) {
  Outcome routine, stat;
  executor_->Submit(std::make_shared<TestJob>(4,
                                              [&](std::uint32_t index) {
                                                order_.push_back('r');
                                                if (index == 1) {
                                                  executor_->Submit(Recorder('s', 2),
                                                                    stat.Options("stat", 9));
                                                }
                                                return absl::OkStatus();
                                              }),
                    routine.Options("routine", 1));
  Release();
  EXPECT_TRUE(routine.Wait().ok());
  EXPECT_TRUE(stat.Wait().ok());
  EXPECT_EQ(order_, "rrssrr");
}

TEST_F(UrgencyTest, CancellingAWaitingJobRunsNoneOfItsWindows) {
  Outcome a;
  const auto job = std::make_shared<TestJob>(5);
  executor_->Submit(job, a.Options("a"));
  executor_->Cancel("a");
  executor_->Cancel("unknown");
  Release();
  const absl::Status status = a.Wait();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(base::ReasonOf(status), "CANCELLED");
  EXPECT_TRUE(job->forwarded().empty());
}

}  // namespace
}  // namespace tomoserve::executor
