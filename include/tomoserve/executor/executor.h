// Runs windows of admitted runs on lanes, most urgent run first, and folds each window's output into its run
// in window order, so that sums do not depend on timing. Knows no tensors: a Job is windows 0..n-1.
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
  // Asked once, at Submit. Must be constant.
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
  // Folded windows, from a lane, one call at a time per job, `done` rising. Must not block.
  std::function<void(std::uint32_t done, std::uint32_t total)> progress;
  // Called once, from a lane: OK, the first error, or kCancelled CANCELLED. The executor holds neither the
  // job nor any of its outputs by then. Must not throw; may call Submit and Cancel.
  std::function<void(absl::Status)> finished;
};

// Thread-safe. An exception of a job (kInternal JOB_FAILED; std::bad_alloc: kResourceExhausted OUT_OF_MEMORY)
// is the error of that job only.
class Executor {
 public:
  // `lanes` threads, at least one. At most `ahead` outputs of a job wait for their turn to be folded, so a
  // job has at most `ahead` + 1 windows that are begun and not folded (bounds memory).
  static std::unique_ptr<Executor> Create(std::uint32_t lanes, std::uint32_t ahead);
  // Cancels what is left, waits for the windows in flight and for every `finished`. Not from a lane.
  virtual ~Executor() = default;
  virtual void Submit(std::shared_ptr<Job> job, JobOptions options) = 0;
  // Between two windows; unknown ids are ignored. A window in flight is completed and thrown away. The last
  // window's Fold may win: then the job is finished with OK.
  virtual void Cancel(const std::string& run_id) = 0;
  // Runs `task` once on every lane, each before the lane's next window, and returns when all have: for what
  // must be done per thread (warm-up). Not from a lane. `task` must not throw. Concurrent calls take turns.
  virtual void OnEveryLane(const std::function<void(std::uint32_t lane)>& task) = 0;
  // Windows whose Forward succeeded, of all jobs.
  virtual std::uint64_t windows_done() const = 0;
};

}  // namespace tomoserve::executor
