// What a run gives does not depend on its batch-mates, the lanes, or what failed beside it.
#include <gtest/gtest.h>

#include <atomic>
#include <bit>
#include <cmath>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "executor/test_job.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/executor/executor.h"

namespace tomoserve::executor {
namespace {

// Sums what a fake network says of its windows; each order of the sums has other bits.
class SumJob final : public Job {
 public:
  SumJob(std::uint32_t seed, std::uint32_t windows) : seed_(seed), windows_(windows) {}
  std::uint32_t windows() const override { return windows_; }
  absl::Status Forward(std::uint32_t index, std::uint32_t, std::unique_ptr<Output>& output) override {
    output = std::make_unique<Value>(Network(index));
    return absl::OkStatus();
  }
  absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) override {
    EXPECT_EQ(index, folded_++);
    sum_ = sum_ * 0.9f + static_cast<Value&>(*output).value;
    return absl::OkStatus();
  }
  float Network(std::uint32_t index) const {
    return std::sin(static_cast<float>(seed_ * 1000 + index)) * 1e3f;
  }
  std::uint32_t bits() const { return std::bit_cast<std::uint32_t>(sum_); }

  struct Value final : Output {
    explicit Value(float v) : value(v) {}
    float value;
  };

 private:
  const std::uint32_t seed_;
  const std::uint32_t windows_;
  std::uint32_t folded_ = 0;
  float sum_ = 0;
};

// Computes slots from the last to the first; some batches fail.
class FlakyBatcher final : public Batcher {
 public:
  FlakyBatcher() : Batcher({1, 2, 4}) {}
  absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane) override {
    EXPECT_LE(slots.size(), bucket);
    std::set<const Job*> jobs;
    for (std::size_t i = slots.size(); i-- > 0;) {
      Slot& slot = slots[i];
      jobs.insert(slot.job);
      slot.status = slot.job->Forward(slot.window, lane, slot.output);
      switch (passes_.fetch_add(1) % 37) {
        case 5:
          return absl::InternalError("half way");
        case 17:
          throw std::runtime_error("thrown half way");
        case 29:
          return base::OutOfMemory("", "a batch");
        default:
          break;
      }
    }
    if (jobs.size() > 1) ++mixed;
    return absl::OkStatus();
  }
  std::atomic<int> mixed{0};

 private:
  std::atomic<std::uint32_t> passes_{0};
};

TEST(InvarianceTest, ARunAmongOthersGivesTheBitsOfTheRunAlone) {
  constexpr std::uint32_t kRuns = 30;
  const auto windows_of = [](std::uint32_t run) { return 5 + run * 7 % 40; };
  std::vector<std::uint32_t> alone;
  for (std::uint32_t run = 0; run < kRuns; ++run) {
    const auto executor = Executor::Create(1, 1);
    const auto job = std::make_shared<SumJob>(run, windows_of(run));
    Outcome outcome;
    executor->Submit(job, outcome.Options("alone"));
    ASSERT_TRUE(outcome.Wait().ok());
    alone.push_back(job->bits());
  }
  for (std::uint32_t lanes = 1; lanes <= 4; ++lanes) {
    const auto executor = Executor::Create(lanes, 6);
    const auto batcher = std::make_shared<FlakyBatcher>();
    std::vector<std::shared_ptr<SumJob>> jobs;
    std::vector<std::unique_ptr<Outcome>> outcomes;
    for (std::uint32_t run = 0; run < kRuns; ++run) {
      jobs.push_back(std::make_shared<SumJob>(run, windows_of(run)));
      outcomes.push_back(std::make_unique<Outcome>());
      JobOptions options = outcomes.back()->Options(std::to_string(run), run % 4);
      options.batcher = batcher;
      executor->Submit(jobs.back(), std::move(options));
    }
    for (std::uint32_t run = 0; run < kRuns; ++run) {
      EXPECT_TRUE(outcomes[run]->Wait().ok());
      EXPECT_EQ(jobs[run]->bits(), alone[run]) << "run " << run << " on " << lanes << " lanes";
    }
    EXPECT_GT(batcher->mixed, 5);
    EXPECT_GT(executor->counters().retried_batches, 0u);
  }
}

TEST(InvarianceTest, EveryJobIsFinishedOnceWhateverFailsOrIsCancelled) {
  constexpr int kThreads = 4;
  constexpr int kJobsPerThread = 100;
  std::atomic<int> finished{0}, ok{0}, wrong{0};
  {
    const auto executor = Executor::Create(3, 5);
    const std::vector<std::shared_ptr<Batcher>> models{std::make_shared<FlakyBatcher>(),
                                                       std::make_shared<FlakyBatcher>(),
                                                       std::make_shared<Batcher>(std::vector{4u}), nullptr};
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::minstd_rand random(static_cast<unsigned>(t + 1));
        for (int j = 0; j < kJobsPerThread; ++j) {
          const auto windows = static_cast<std::uint32_t>(random() % 30);
          const auto fails = random() % 6;
          const auto job = std::make_shared<TestJob>(
              windows,
              [fails](std::uint32_t index) -> absl::Status {
                if (index % 7 == 3) std::this_thread::yield();
                if (fails == 0 && index == 5) return absl::InternalError("failing");
                if (fails == 1 && index == 9) throw std::runtime_error("throwing");
                return absl::OkStatus();
              },
              [fails](std::uint32_t index) {
                return fails == 2 && index == 11 ? absl::DataLossError("fold") : absl::OkStatus();
              });
          JobOptions options;
          options.run_id = std::to_string(t) + "/" + std::to_string(j);
          options.urgency = static_cast<std::uint32_t>(random() % 4);
          options.batcher = models[random() % models.size()];
          if (random() % 2 == 0) options.deadline_ms = static_cast<double>(random() % 100);
          options.finished = [&, job, windows, fails](const absl::Status& status) {
            ++finished;
            const auto folded = job->folded();
            if (folded != Range(static_cast<std::uint32_t>(folded.size()))) ++wrong;
            if (status.ok()) {
              ++ok;
              if (folded.size() != windows) ++wrong;
            } else if (!absl::IsCancelled(status) && fails > 2) {
              ++wrong;  // by its batch-mates
            }
          };
          const std::string id = options.run_id;
          executor->Submit(job, std::move(options));
          if (random() % 4 == 0) executor->Cancel(id);
        }
      });
    }
    executor->OnEveryLane([](std::uint32_t) {});
    threads.clear();
    // Half of what is left runs to its end.
    while (finished < kThreads * kJobsPerThread / 2) std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(finished, kThreads * kJobsPerThread);
  EXPECT_GT(ok, 20);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(IndexOutput::alive, 0);
}

}  // namespace
}  // namespace tomoserve::executor
