// Runs windows of admitted runs on lanes, most urgent run first, and folds each window's output into its run in
// window order, so that sums do not depend on timing. Knows no tensors: a Job is windows 0..n-1.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace tomoserve::executor {

// One run's windows. Forward may be called from several lanes at a time for different windows; Fold is called
// once per window, in order, from one thread at a time.
class Job {
 public:
  virtual ~Job() = default;
  virtual std::uint32_t windows() const = 0;
  // Computes window `index`; what it returns is handed to Fold.
  class Output {
   public:
    virtual ~Output() = default;
  };
  virtual absl::Status Forward(std::uint32_t index, std::uint32_t lane, std::unique_ptr<Output>& output) = 0;
  virtual absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) = 0;
};

struct JobOptions {
  std::string run_id;
  std::uint32_t urgency = 0;  // higher first; equal: first come, first served
  std::function<void(std::uint32_t done, std::uint32_t total)> progress;  // from a lane, must not block
  // Called once, from a lane: OK, the first error, or kCancelled CANCELLED.
  std::function<void(absl::Status)> finished;
};

// Thread-safe.
class Executor {
 public:
  // `lanes` threads. At most `ahead` outputs of a job wait for their turn to be folded (bounds memory).
  static std::unique_ptr<Executor> Create(std::uint32_t lanes, std::uint32_t ahead);
  virtual ~Executor() = default;  // cancels what is left
  virtual void Submit(std::shared_ptr<Job> job, JobOptions options) = 0;
  // Between two windows; unknown ids are ignored.
  virtual void Cancel(const std::string& run_id) = 0;
  virtual std::uint64_t windows_done() const = 0;
};

}  // namespace tomoserve::executor
