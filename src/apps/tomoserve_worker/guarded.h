// Work on the worker's threads.
#pragma once

#include <exception>
#include <new>

#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"

namespace tomoserve::worker {

// Exceptions of what runs on a thread of ours (out of memory, mostly) end the task, not the worker.
template <typename Call>
auto Guarded(const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return base::OutOfMemory("", "a step of the worker");
  } catch (const std::exception& error) {
    return base::Error(absl::StatusCode::kInternal, "WORKER_FAILED", "", error.what());
  }
}

}  // namespace tomoserve::worker
