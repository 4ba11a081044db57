#include "store/files.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::store {

bool MeansDiskFull(int error_number) {
  return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
}

absl::Status DiskError(int error_number, std::string_view what) {
  const bool full = MeansDiskFull(error_number);
  const char* name = ::strerrorname_np(error_number);
  return base::Error(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
                     full ? "DISK_FULL" : "DISK_FAILED", name == nullptr ? "" : name,
                     absl::StrCat(base::ToAbsl(what), full ? ": no room on the disk" : " failed"));
}

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(folder, error).lexically_normal();
  if (error) return DiskError(error.value(), "finding a folder");
  std::filesystem::path made;
  for (const std::filesystem::path& part : path) {
    const std::filesystem::path parent = made;
    made /= part;
    if (part.empty() || made == path.root_path()) continue;
    if (::mkdir(made.c_str(), 0700) == 0) {
      TS_RETURN_IF_ERROR(SyncFolder(parent.string()));
    } else if (!std::filesystem::is_directory(made, error)) {
      return DiskError(errno == EEXIST ? ENOTDIR : errno, "making a folder");
    }
  }
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& folder) {
  const base::UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return DiskError(errno, "opening a folder");
  if (::fsync(fd.get()) != 0) return DiskError(errno, "syncing a folder");
  return absl::OkStatus();
}

absl::Status WriteAt(int fd, std::string_view bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      return DiskError(errno, "writing a file");
    }
    bytes.remove_prefix(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadAt(int fd, std::uint64_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t count = ::pread(fd, bytes.data() + have, size - have, static_cast<off_t>(offset + have));
    if (count < 0) {
      if (errno == EINTR) continue;
      return DiskError(errno, "reading a file");
    }
    if (count == 0) break;
    have += static_cast<std::size_t>(count);
  }
  bytes.resize(have);
  return bytes;
}

absl::StatusOr<std::uint64_t> SizeOf(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return DiskError(errno, "reading a file's size");
  return static_cast<std::uint64_t>(status.st_size);
}

std::string RandomHex(std::size_t bytes) {
  std::string random(bytes, '\0');
  std::size_t have = 0;
  while (have < bytes) {
    const ssize_t count = ::getrandom(random.data() + have, bytes - have, 0);
    if (count > 0) have += static_cast<std::size_t>(count);  // EINTR is its only error with these arguments
  }
  return absl::BytesToHexString(random);
}

}  // namespace tomoserve::store
