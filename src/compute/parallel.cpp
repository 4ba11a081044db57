#include "tomoserve/compute/parallel.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {

absl::Status CheckCancelled(const Parallel& parallel) {
  if (parallel.cancelled && parallel.cancelled()) {
    return base::Error(absl::StatusCode::kCancelled, "CANCELLED", "", "the run was cancelled");
  }
  return absl::OkStatus();
}

absl::Status ParallelFor(const Parallel& parallel, std::int64_t count,
                         const std::function<void(std::int64_t index, int worker)>& task) {
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  absl::Status result;
  const auto fail = [&](absl::Status error) {
    stop = true;
    const std::lock_guard lock(mutex);
    if (result.ok()) result = std::move(error);
  };
  const auto work = [&](int worker) {
    try {
      while (!stop) {
        const std::int64_t index = next.fetch_add(1);
        if (index >= count) return;
        if (absl::Status status = CheckCancelled(parallel); !status.ok()) return fail(std::move(status));
        task(index, worker);
      }
    } catch (const std::exception& exception) {
      fail(ErrorOf(exception));
    }
  };
  const auto workers = static_cast<int>(std::clamp<std::int64_t>(count, 1, std::max(parallel.threads, 1)));
  {
    std::vector<std::jthread> threads;
    try {
      for (int worker = 1; worker < workers; ++worker) threads.emplace_back(work, worker);
    } catch (const std::system_error&) {
      // Fewer threads than asked for: the ones there are do all the work.
    }
    work(0);
  }
  return result;
}

}  // namespace tomoserve::compute
