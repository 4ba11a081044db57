// Keeps those who launch work on a GPU from running ahead of it.
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>

namespace tomoserve::engine {

// Launches return at once; without a bound a lane would queue all batches of a run, whose outputs would have
// to live at once, progress would be a fiction, and a cancellation would have nothing left to stop.
// Thread-safe.
class LaunchBound {
 public:
  // At most `batches` (at least 1) marks of `stream` are unfinished at a time where one lane launches, as on
  // a GPU. A lane waits before its batch and marks after it, so each further lane that launches beside it
  // may add one. Without a stream (CPU) nothing ever waits.
  LaunchBound(std::optional<c10::Stream> stream, std::size_t batches);

  // Waits until there is room for one more batch. Throws c10::Error for what went wrong on the device.
  void AwaitRoom();
  // What was launched on the stream until now is a batch.
  void Mark();
  // Waits for every mark. Throws as AwaitRoom.
  void AwaitAll();

 private:
  void AwaitFewerThan(std::size_t batches);

  const std::optional<c10::Stream> stream_;
  const std::size_t batches_;
  std::mutex mutex_;
  std::deque<c10::Event> unfinished_;  // oldest first; guarded by mutex_
};

}  // namespace tomoserve::engine
