// Splits work whose parts do not depend on each other over threads. What a part computes never depends on
// the number of threads, so results are bit-identical for any of them.
#pragma once

#include <cstdint>
#include <functional>

#include "absl/status/status.h"

namespace tomoserve::compute {

// How a stage may run.
struct Parallel {
  int threads = 1;                  // at least 1; the caller's thread is one of them
  std::function<bool()> cancelled;  // may be empty; called from every thread, must be thread-safe
};

// Calls task(index, worker) once for each index in [0, count); worker in [0, threads) names the scratch space
// that the call may use. Returns when all calls are done. Errors: kCancelled CANCELLED (some indices were not
// done), kResourceExhausted OUT_OF_MEMORY, kInternal TENSOR_FAILED for what else a task threw.
absl::Status ParallelFor(const Parallel& parallel, std::int64_t count,
                         const std::function<void(std::int64_t index, int worker)>& task);

// kCancelled CANCELLED if the caller no longer wants the result.
absl::Status CheckCancelled(const Parallel& parallel);

}  // namespace tomoserve::compute
