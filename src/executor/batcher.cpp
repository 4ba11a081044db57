#include <algorithm>
#include <utility>

#include "tomoserve/executor/job.h"

namespace tomoserve::executor {

Batcher::Batcher(std::vector<std::uint32_t> buckets, double window_ms)
    : buckets_(std::move(buckets)), window_ms_(window_ms) {
  std::erase(buckets_, 0u);
  if (buckets_.empty()) buckets_.push_back(1);
  std::sort(buckets_.begin(), buckets_.end());
}

std::uint32_t Batcher::BucketFor(std::uint32_t windows) const {
  const auto found = std::lower_bound(buckets_.begin(), buckets_.end(), windows);
  return found == buckets_.end() ? buckets_.back() : *found;
}

absl::Status Batcher::Forward(std::span<Slot> slots, std::uint32_t, std::uint32_t lane) {
  for (Slot& slot : slots) slot.status = slot.job->Forward(slot.window, lane, slot.output);
  return absl::OkStatus();
}

}  // namespace tomoserve::executor
