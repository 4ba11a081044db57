// What can be wrong with a GPU, as errors.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/cuda/module.h"

namespace tomoserve::engine {

// kUnavailable DEVICE_UNAVAILABLE: there is no such device, or it cannot be reached.
absl::Status DeviceUnavailable(std::string_view value, std::string_view text);
// kFailedPrecondition DEVICE_UNSUPPORTED: it is there, and this build must not compute on it.
absl::Status DeviceUnsupported(std::string_view value, std::string_view text);
// DEVICE_UNAVAILABLE with CUDA's name and text of a result that is an error.
absl::Status ErrorOf(const cuda::Result& result);

}  // namespace tomoserve::engine
