// Where LibTorch's exceptions stop.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {

// Call inside a catch block only. std::bad_alloc and LibTorch's allocation failures become kResourceExhausted
// OUT_OF_MEMORY; everything else `code` `reason` with `value`, the text being `what` and the exception's last
// line (printable ASCII, bounded).
absl::Status CurrentException(absl::StatusCode code, std::string_view reason, std::string_view value,
                              std::string_view what);

// The same for what a device is set up with: kUnavailable DEVICE_UNAVAILABLE, whatever was thrown. A device
// that has no memory for its first operations cannot be used, and nothing in this process will change that.
absl::Status CurrentDeviceException(std::string_view value, std::string_view what);

// Whether an error of CurrentException is a lack of memory, or may be one.
bool MayBeShortage(const absl::Status& error);

// What an attempt on a GPU gives, which is tried again with all memory that can be had where it may have
// failed for want of that. What fails again, and does not say why (base::MayMeanOutOfMemory), is a lack of
// memory only where there is hardly any: else it is a fault that no later try would mend.
template <typename Attempt>
auto WithinMemory(const Attempt& attempt, const std::function<void()>& free_cache,
                  const std::function<bool()>& is_low) -> decltype(attempt()) {
  auto result = attempt();
  if (result.ok() || !MayBeShortage(result.status())) return result;
  free_cache();
  result = attempt();
  if (!result.ok() && MayBeShortage(result.status()) && is_low()) {
    return base::OutOfMemory(base::ValueOf(result.status()), "the device");
  }
  return result;
}

}  // namespace tomoserve::engine
