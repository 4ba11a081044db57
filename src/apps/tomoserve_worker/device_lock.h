// One worker per device and host, whatever front started it.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::worker {

// Holds an exclusive flock on FOLDER/NAME.lock until it is destroyed or the process ends. Move-only.
class DeviceLock {
 public:
  // `name`: letters, digits, ':', '-' and '_' ("cuda:0"). The folder must exist; the file stays.
  // Errors: kFailedPrecondition DEVICE_BUSY (value: name), kInvalidArgument LOCK_NAME, kUnavailable
  // LOCK_FAILED (value: errno).
  static absl::StatusOr<DeviceLock> Acquire(const std::string& folder, std::string_view name);

 private:
  explicit DeviceLock(base::UniqueFd file) : file_(std::move(file)) {}
  base::UniqueFd file_;
};

}  // namespace tomoserve::worker
