#include "tomoserve/executor/executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <latch>
#include <mutex>
#include <new>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "executor/test_job.h"
#include "tomoserve/base/status.h"

namespace tomoserve::executor {
namespace {

TEST(ExecutorTest, FoldsEveryWindowOnceInOrder) {
  const auto executor = Executor::Create(4, 8);
  // Early windows take longest, so that later ones overtake them.
  const auto job = std::make_shared<TestJob>(64, [](std::uint32_t index) {
    std::this_thread::sleep_for(std::chrono::microseconds(index % 5 == 0 ? 2000 : 50));
    return absl::OkStatus();
  });
  Outcome outcome;
  executor->Submit(job, outcome.Options("a"));
  EXPECT_TRUE(outcome.Wait().ok());
  EXPECT_EQ(job->folded(), Range(64));
  EXPECT_EQ(executor->windows_done(), 64u);
}

TEST(ExecutorTest, BoundsTheOutputsThatWait) {
  const auto executor = Executor::Create(4, 2);
  std::latch others(2);
  const auto job = std::make_shared<TestJob>(40, [&](std::uint32_t index) {
    // Window 0 waits until as many others as may be ahead have run, and then a little longer.
    if (index == 0) {
      others.wait();
      std::this_thread::sleep_for(20ms);
    } else if (index <= 2) {
      others.count_down();
    }
    return absl::OkStatus();
  });
  Outcome outcome;
  executor->Submit(job, outcome.Options("a"));
  EXPECT_TRUE(outcome.Wait().ok());
  EXPECT_EQ(job->most_begun_ahead(), 2u);
}

TEST(ExecutorTest, WithoutLookAheadWindowsRunOneAfterTheOther) {
  const auto executor = Executor::Create(4, 0);
  std::atomic<int> inside{0};
  const auto job = std::make_shared<TestJob>(30, [&](std::uint32_t) {
    EXPECT_EQ(++inside, 1);
    std::this_thread::sleep_for(100us);
    --inside;
    return absl::OkStatus();
  });
  Outcome outcome;
  executor->Submit(job, outcome.Options("a"));
  EXPECT_TRUE(outcome.Wait().ok());
}

TEST(ExecutorTest, AJobWithoutWindowsIsFinished) {
  const auto executor = Executor::Create(2, 1);
  Outcome outcome;
  executor->Submit(std::make_shared<TestJob>(0), outcome.Options("a"));
  EXPECT_TRUE(outcome.Wait().ok());
}

TEST(ExecutorTest, ReportsProgressRisingToTheTotal) {
  const auto executor = Executor::Create(3, 4);
  Outcome outcome;
  JobOptions options = outcome.Options("a");
  std::vector<std::uint32_t> seen;  // calls are serial per job
  options.progress = [&](std::uint32_t done, std::uint32_t total) {
    EXPECT_EQ(total, 20u);
    seen.push_back(done);
  };
  executor->Submit(std::make_shared<TestJob>(20), std::move(options));
  EXPECT_TRUE(outcome.Wait().ok());
  ASSERT_EQ(seen.size(), 20u);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 20u);
}

TEST(ExecutorTest, CancelsBetweenTwoWindows) {
  const auto executor = Executor::Create(2, 4);
  std::promise<void> begun;
  std::atomic<bool> told{false};
  const auto job = std::make_shared<TestJob>(1'000'000, [&](std::uint32_t index) {
    if (index == 3 && !told.exchange(true)) begun.set_value();
    std::this_thread::sleep_for(1ms);
    return absl::OkStatus();
  });
  Outcome outcome;
  executor->Submit(job, outcome.Options("a"));
  begun.get_future().wait();
  executor->Cancel("a");
  EXPECT_EQ(outcome.Wait().code(), absl::StatusCode::kCancelled);
  const std::size_t windows = job->forwarded().size();
  EXPECT_LT(windows, 10'000u);
  std::this_thread::sleep_for(10ms);
  EXPECT_EQ(job->forwarded().size(), windows) << "a window ran after the end";
  EXPECT_EQ(outcome.calls(), 1);
}

TEST(ExecutorTest, AFailingWindowFailsItsJobOnly) {
  const auto executor = Executor::Create(3, 2);
  Outcome bad, good;
  executor->Submit(std::make_shared<TestJob>(50,
                                             [](std::uint32_t index) {
                                               return index == 7
                                                          ? base::Error(absl::StatusCode::kInternal,
                                                                        "NETWORK_FAILED", "7", "window 7")
                                                          : absl::OkStatus();
                                             }),
                   bad.Options("bad"));
  executor->Submit(std::make_shared<TestJob>(50), good.Options("good"));
  const absl::Status status = bad.Wait();
  EXPECT_EQ(base::ReasonOf(status), "NETWORK_FAILED");
  EXPECT_EQ(base::ValueOf(status), "7");
  EXPECT_TRUE(good.Wait().ok());
}

TEST(ExecutorTest, AFailingFoldEndsTheJob) {
  const auto executor = Executor::Create(2, 2);
  const auto job = std::make_shared<TestJob>(50, TestJob::Step{}, [](std::uint32_t index) {
    return index == 4 ? absl::DataLossError("fold") : absl::OkStatus();
  });
  Outcome outcome;
  executor->Submit(job, outcome.Options("a"));
  EXPECT_EQ(outcome.Wait().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(job->folded(), Range(5));
}

TEST(ExecutorTest, ExceptionsOfAJobAreItsErrors) {
  const auto executor = Executor::Create(2, 2);
  Outcome in_forward, in_fold, no_memory, in_progress, good;
  executor->Submit(std::make_shared<TestJob>(
                       9, [](std::uint32_t) -> absl::Status { throw std::runtime_error("forward threw"); }),
                   in_forward.Options("a"));
  executor->Submit(
      std::make_shared<TestJob>(9, TestJob::Step{}, [](std::uint32_t) -> absl::Status { throw 7; }),
      in_fold.Options("b"));
  executor->Submit(
      std::make_shared<TestJob>(9, [](std::uint32_t) -> absl::Status { throw std::bad_alloc(); }),
      no_memory.Options("c"));
  JobOptions progress = in_progress.Options("d");
  progress.progress = [](std::uint32_t, std::uint32_t) { throw std::runtime_error("progress threw"); };
  executor->Submit(std::make_shared<TestJob>(9), std::move(progress));
  executor->Submit(std::make_shared<TestJob>(9), good.Options("e"));
  EXPECT_EQ(base::ReasonOf(in_forward.Wait()), "JOB_FAILED");
  EXPECT_EQ(in_forward.Wait().message(), "forward threw");
  EXPECT_EQ(base::ReasonOf(in_fold.Wait()), "JOB_FAILED");
  EXPECT_EQ(base::ReasonOf(no_memory.Wait()), "OUT_OF_MEMORY");
  EXPECT_EQ(base::ReasonOf(in_progress.Wait()), "JOB_FAILED");
  EXPECT_TRUE(good.Wait().ok());
}

TEST(ExecutorTest, HoldsNothingOfAJobOnceItIsFinished) {
  const auto executor = Executor::Create(2, 4);
  auto job = std::make_shared<TestJob>(
      30, [](std::uint32_t index) { return index == 20 ? absl::InternalError("stop") : absl::OkStatus(); });
  const std::weak_ptr<TestJob> watch = job;
  std::promise<bool> gone;
  JobOptions options;
  options.finished = [&](absl::Status) { gone.set_value(watch.expired() && IndexOutput::alive == 0); };
  executor->Submit(std::move(job), std::move(options));
  EXPECT_TRUE(gone.get_future().get());
}

TEST(ExecutorTest, TheDestructorCancelsWhatIsLeft) {
  Outcome running, waiting;
  std::promise<void> begun;
  {
    const auto executor = Executor::Create(1, 1);
    executor->Submit(std::make_shared<TestJob>(1'000'000,
                                               [&](std::uint32_t index) {
                                                 if (index == 0) begun.set_value();
                                                 std::this_thread::sleep_for(200us);
                                                 return absl::OkStatus();
                                               }),
                     running.Options("running", 1));
    executor->Submit(std::make_shared<TestJob>(10), waiting.Options("waiting"));
    begun.get_future().wait();
  }
  EXPECT_EQ(running.calls(), 1);
  EXPECT_EQ(waiting.calls(), 1);
  EXPECT_EQ(running.Wait().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(waiting.Wait().code(), absl::StatusCode::kCancelled);
}

TEST(ExecutorTest, AFinishedJobMaySubmitTheNext) {
  const auto executor = Executor::Create(2, 1);
  Outcome second;
  JobOptions first;
  first.finished = [&](absl::Status status) {
    EXPECT_TRUE(status.ok());
    executor->Submit(std::make_shared<TestJob>(3), second.Options("second"));
  };
  executor->Submit(std::make_shared<TestJob>(3), std::move(first));
  EXPECT_TRUE(second.Wait().ok());
}

TEST(ExecutorTest, RunsATaskOnEveryLaneOnceEvenUnderLoad) {
  const auto executor = Executor::Create(3, 4);
  Outcome load;
  std::atomic<bool> stop{false};
  executor->Submit(std::make_shared<TestJob>(1'000'000,
                                             [&](std::uint32_t) {
                                               std::this_thread::sleep_for(100us);
                                               return stop ? absl::AbortedError("enough") : absl::OkStatus();
                                             }),
                   load.Options("load"));
  std::mutex mutex;
  std::multiset<std::uint32_t> lanes;
  std::set<std::thread::id> threads;
  const auto task = [&](std::uint32_t lane) {
    const std::lock_guard lock(mutex);
    lanes.insert(lane);
    threads.insert(std::this_thread::get_id());
  };
  executor->OnEveryLane(task);
  EXPECT_EQ(lanes, (std::multiset<std::uint32_t>{0, 1, 2}));
  EXPECT_EQ(threads.size(), 3u);
  {
    const std::jthread one([&] { executor->OnEveryLane(task); });
    const std::jthread two([&] { executor->OnEveryLane(task); });
  }
  EXPECT_EQ(lanes.size(), 9u);
  EXPECT_EQ(threads.size(), 3u);
  stop = true;
  EXPECT_EQ(load.Wait().code(), absl::StatusCode::kAborted);
}

TEST(ExecutorTest, SurvivesManyJobsCancellationsAndFailuresAtOnce) {
  constexpr int kThreads = 4;
  constexpr int kJobsPerThread = 60;
  std::atomic<int> finished{0}, ok{0}, cancelled{0}, failed{0};
  std::atomic<int> wrong{0};
  {
    const auto executor = Executor::Create(4, 3);
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::minstd_rand random(static_cast<unsigned>(t + 1));
        for (int j = 0; j < kJobsPerThread; ++j) {
          const std::string id = std::to_string(t) + "/" + std::to_string(j);
          const auto windows = static_cast<std::uint32_t>(random() % 30);
          const bool fails = random() % 5 == 0;
          const auto job = std::make_shared<TestJob>(windows, [fails](std::uint32_t index) {
            if (index % 7 == 3) std::this_thread::yield();
            return fails && index == 5 ? absl::InternalError("failing") : absl::OkStatus();
          });
          JobOptions options;
          options.run_id = id;
          options.urgency = static_cast<std::uint32_t>(random() % 3);
          const std::weak_ptr<TestJob> watch = job;
          options.finished = [&, job, windows](const absl::Status& status) {
            ++finished;
            const auto folded = job->folded();
            if (folded != Range(static_cast<std::uint32_t>(folded.size()))) ++wrong;
            if (status.ok()) {
              ++ok;
              if (folded.size() != windows) ++wrong;
            } else if (absl::IsCancelled(status)) {
              ++cancelled;
            } else {
              ++failed;
            }
          };
          executor->Submit(job, std::move(options));
          if (random() % 4 == 0) executor->Cancel(id);
        }
      });
    }
    executor->OnEveryLane([](std::uint32_t) {});
    threads.clear();
  }  // the destructor ends the rest
  EXPECT_EQ(finished, kThreads * kJobsPerThread);
  EXPECT_EQ(ok + cancelled + failed, kThreads * kJobsPerThread);
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(IndexOutput::alive, 0);
}

}  // namespace
}  // namespace tomoserve::executor
