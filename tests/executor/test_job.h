// A job whose behaviour a test gives by two functions, and how it ended.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tomoserve/executor/executor.h"

namespace tomoserve::executor {

using namespace std::chrono_literals;

struct IndexOutput final : Job::Output {
  explicit IndexOutput(std::uint32_t value) : index(value) { ++alive; }
  ~IndexOutput() override { --alive; }
  static inline std::atomic<int> alive{0};
  std::uint32_t index;
};

// Counts windows; behaviour is given by two functions.
class TestJob final : public Job {
 public:
  using Step = std::function<absl::Status(std::uint32_t)>;
  explicit TestJob(std::uint32_t windows, Step forward = {}, Step fold = {})
      : windows_(windows), forward_(std::move(forward)), fold_(std::move(fold)) {}

  std::uint32_t windows() const override { return windows_; }

  absl::Status Forward(std::uint32_t index, std::uint32_t, std::unique_ptr<Output>& output) override {
    {
      const std::lock_guard lock(mutex_);
      forwarded_.push_back(index);
      most_begun_ahead_ = std::max(most_begun_ahead_, index - static_cast<std::uint32_t>(folded_.size()));
    }
    if (forward_) {
      if (absl::Status status = forward_(index); !status.ok()) return status;
    }
    output = std::make_unique<IndexOutput>(index);
    return absl::OkStatus();
  }

  absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) override {
    EXPECT_FALSE(in_fold_.exchange(true)) << "two folds of one job at a time";
    EXPECT_EQ(static_cast<IndexOutput&>(*output).index, index);
    absl::Status status = fold_ ? fold_(index) : absl::OkStatus();
    {
      const std::lock_guard lock(mutex_);
      folded_.push_back(index);
    }
    in_fold_ = false;
    return status;
  }

  std::vector<std::uint32_t> forwarded() const {
    const std::lock_guard lock(mutex_);
    return forwarded_;
  }
  std::vector<std::uint32_t> folded() const {
    const std::lock_guard lock(mutex_);
    return folded_;
  }
  std::uint32_t most_begun_ahead() const {
    const std::lock_guard lock(mutex_);
    return most_begun_ahead_;
  }

 private:
  const std::uint32_t windows_;
  const Step forward_;
  const Step fold_;
  mutable std::mutex mutex_;
  std::vector<std::uint32_t> forwarded_;
  std::vector<std::uint32_t> folded_;
  std::uint32_t most_begun_ahead_ = 0;
  std::atomic<bool> in_fold_{false};
};

// A submitted job's end.
class Outcome {
 public:
  JobOptions Options(std::string run_id, std::uint32_t urgency = 0) {
    JobOptions options;
    options.run_id = std::move(run_id);
    options.urgency = urgency;
    options.finished = [this](absl::Status status) {
      ++calls_;
      promise_.set_value(std::move(status));
    };
    return options;
  }
  absl::Status Wait() {
    if (!status_) {
      if (future_.wait_for(60s) != std::future_status::ready)
        return absl::DeadlineExceededError("not finished");
      status_ = future_.get();
    }
    return *status_;
  }
  int calls() const { return calls_; }

 private:
  std::promise<absl::Status> promise_;
  std::future<absl::Status> future_ = promise_.get_future();
  std::optional<absl::Status> status_;
  std::atomic<int> calls_{0};
};

inline std::vector<std::uint32_t> Range(std::uint32_t n) {
  std::vector<std::uint32_t> range(n);
  for (std::uint32_t i = 0; i < n; ++i) range[i] = i;
  return range;
}

}  // namespace tomoserve::executor
