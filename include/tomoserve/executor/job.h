// What the executor computes: the windows of jobs, one at a time or, where their model has a Batcher that
// can, several jobs' in one batch. No tensors: a Job is windows 0..n-1.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace tomoserve::executor {

// One run's windows. Forward may be called from several lanes at a time for different windows; Fold is called
// once per window, in order, from one thread at a time.
class Job {
 public:
  virtual ~Job() = default;
  // Asked once, at Submit. Must be constant.
  virtual std::uint32_t windows() const = 0;
  // Computes window `index` alone; what it returns is handed to Fold. May be called again for a window whose
  // batch failed or found no memory.
  class Output {
   public:
    virtual ~Output() = default;
  };
  virtual absl::Status Forward(std::uint32_t index, std::uint32_t lane, std::unique_ptr<Output>& output) = 0;
  virtual absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) = 0;
};

// One model on this device: its jobs share batches and, with those of other models, the device. As it is it
// computes one window at a time, by Job::Forward; a subclass computes several in one pass.
class Batcher {
 public:
  // A window of the batch, and what became of it.
  struct Slot {
    Job* job = nullptr;  // one of this model's
    std::uint32_t window = 0;
    absl::Status status;                  // not OK: this window's own error, whatever its batch-mates do
    std::unique_ptr<Job::Output> output;  // where the status is OK
  };

  // `buckets`: sizes of batches that may be computed, at least 1 each. Which bucket and slot computes a
  // window must not change a bit of its output. `window_ms`: what a window costs the device, where Forward
  // returns before it is computed (GPU); 0: as long as Forward takes.
  explicit Batcher(std::vector<std::uint32_t> buckets = {1}, double window_ms = 0);
  virtual ~Batcher() = default;
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  std::uint32_t largest_bucket() const { return buckets_.back(); }
  // The smallest one with room for `windows`, which is no more than the largest.
  std::uint32_t BucketFor(std::uint32_t windows) const;
  double window_ms() const { return window_ms_; }

  // Computes 1 to `bucket` windows in one pass of `bucket` slots; never called for a bucket of 1, which is
  // Job::Forward's. Thread-safe. A slot's error ends its job only. What is returned (or thrown) concerns the
  // pass as a whole: the windows are tried again, one at a time. Here: one window after the other.
  virtual absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane);
  // A pass ended with OUT_OF_MEMORY and is about to be tried again, once, in the same bucket: gives back what
  // nobody uses. Thread-safe.
  virtual void FreeMemory() {}

 private:
  std::vector<std::uint32_t> buckets_;  // ascending
  double window_ms_;
};

}  // namespace tomoserve::executor
