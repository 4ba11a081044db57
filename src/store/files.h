// What the spool and the result files ask of the file system, with typed errors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::store {

// kResourceExhausted DISK_FULL where the error number says that there is no room (ENOSPC, EDQUOT, EFBIG),
// else kInternal DISK_FAILED. The value is the name of the error number, never a path.
absl::Status DiskError(int error_number, std::string_view what);
// Whether an error number says that there is no room.
bool MeansDiskFull(int error_number);

// Makes the folder, readable for its owner only, and its parents; it is durable on return.
absl::Status MakeFolder(const std::string& folder);
// fsync of a folder: names that were made, renamed or removed in it are durable.
absl::Status SyncFolder(const std::string& folder);

// Writes all bytes at `offset`.
absl::Status WriteAt(int fd, std::string_view bytes, std::uint64_t offset);
// Reads exactly `size` bytes at `offset`, or fewer where the file ends.
absl::StatusOr<std::string> ReadAt(int fd, std::uint64_t offset, std::size_t size);
absl::StatusOr<std::uint64_t> SizeOf(int fd);

// 2 * `bytes` hex digits from the kernel's random source.
std::string RandomHex(std::size_t bytes);

}  // namespace tomoserve::store
