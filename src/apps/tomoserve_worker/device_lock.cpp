#include "apps/tomoserve_worker/device_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <utility>

#include "tomoserve/base/status.h"

namespace tomoserve::worker {

absl::StatusOr<DeviceLock> DeviceLock::Acquire(const std::string& folder, std::string_view name) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == ':' || c == '-' || c == '_';
  });
  if (!plain) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LOCK_NAME", "", "not a name of a device");
  }
  const std::string path = folder + "/" + std::string(name) + ".lock";
  base::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660));
  if (!file.valid()) {
    return base::Error(absl::StatusCode::kUnavailable, "LOCK_FAILED", std::to_string(errno),
                       "the device's lock file cannot be opened");
  }
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "DEVICE_BUSY", name,
                         "another worker on this host holds the device");
    }
    return base::Error(absl::StatusCode::kUnavailable, "LOCK_FAILED", std::to_string(errno),
                       "the device's lock file cannot be locked");
  }
  return DeviceLock(std::move(file));
}

}  // namespace tomoserve::worker
