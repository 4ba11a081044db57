// Where LibTorch's exceptions stop.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace tomoserve::engine {

// Call inside a catch block only. std::bad_alloc and LibTorch's allocation failures become kResourceExhausted
// OUT_OF_MEMORY; everything else `code` `reason` with `value`, the text being `what` and the exception's last
// line (printable ASCII, bounded).
absl::Status CurrentException(absl::StatusCode code, std::string_view reason, std::string_view value,
                              std::string_view what);

// The same for what a device is set up with: kUnavailable DEVICE_UNAVAILABLE, whatever was thrown. A device
// that has no memory for its first operations cannot be used, and nothing in this process will change that.
absl::Status CurrentDeviceException(std::string_view value, std::string_view what);

}  // namespace tomoserve::engine
