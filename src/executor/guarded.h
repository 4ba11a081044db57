// The fence around code of jobs.
#pragma once

#include <exception>
#include <new>

#include "absl/status/status.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"

namespace tomoserve::executor {

// Calls code of a job; its exceptions become its error: OUT_OF_MEMORY or JOB_FAILED.
template <typename Call>
absl::Status Guarded(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return base::OutOfMemory("", "a window");
  } catch (const std::exception& error) {
    return base::Error(absl::StatusCode::kInternal, "JOB_FAILED", "", error.what());
  } catch (...) {
    return base::Error(absl::StatusCode::kInternal, "JOB_FAILED", "", "unknown exception");
  }
}

}  // namespace tomoserve::executor
