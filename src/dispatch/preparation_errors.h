// What the scheduler is to make of an error of a preparation.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dispatch {

// The run fails: trying again gives the same.
inline absl::Status Impossible(std::string_view code, std::string_view value, std::string_view text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, code, value, text);
}

// The same error as one that says nothing about the run.
inline absl::Status MayPass(const absl::Status& status) {
  return base::Error(absl::StatusCode::kUnavailable, base::ReasonOf(status), base::ValueOf(status),
                     base::ToStd(status.message()));
}

}  // namespace tomoserve::dispatch
