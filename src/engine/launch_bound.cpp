#include "tomoserve/engine/launch_bound.h"

#include <algorithm>

namespace tomoserve::engine {

LaunchBound::LaunchBound(std::optional<c10::Stream> stream, std::size_t batches)
    : stream_(stream), batches_(std::max<std::size_t>(batches, 1)) {}

void LaunchBound::AwaitRoom() { AwaitFewerThan(batches_); }

void LaunchBound::AwaitAll() { AwaitFewerThan(1); }

void LaunchBound::AwaitFewerThan(std::size_t batches) {
  if (!stream_) return;
  const std::lock_guard lock(mutex_);
  while (unfinished_.size() >= batches) {
    // Gone before it is waited for: an event of a broken device would throw for ever.
    const c10::Event oldest = std::move(unfinished_.front());
    unfinished_.pop_front();
    oldest.synchronize();
  }
}

void LaunchBound::Mark() {
  if (!stream_) return;
  c10::Event event(stream_->device_type());
  event.record(*stream_);
  const std::lock_guard lock(mutex_);
  unfinished_.push_back(std::move(event));
}

}  // namespace tomoserve::engine
