#include "tomoserve/store/spool.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "store/files.h"
#include "store/spool/record.h"
#include "tomoserve/base/status.h"

namespace tomoserve::store {
namespace {

constexpr std::string_view kSuffix = ".spool";

// Ids become file names: nothing in them may mean a folder.
bool ValidId(std::string_view id) {
  if (id.empty() || id.size() > 128 || id.front() == '.') return false;
  return std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.');
  });
}

absl::StatusOr<std::string> PathOf(const std::string& folder, std::string_view id) {
  if (!ValidId(id)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "SUBMISSION_ID_INVALID", "",
                       "a submission id has 1 to 128 letters, digits, dots, dashes and underscores");
  }
  return folder + "/" + std::string(id) + std::string(kSuffix);
}

}  // namespace

absl::StatusOr<Spool> Spool::Open(const std::string& folder) {
  TS_RETURN_IF_ERROR(MakeFolder(folder));
  Spool spool;
  spool.folder_ = folder;
  return spool;
}

absl::StatusOr<SpoolWriter> Spool::OpenWriter(std::string_view submission_id) const {
  SpoolWriter writer;
  TS_ASSIGN_OR_RETURN(writer.path_, PathOf(folder_, submission_id));
  writer.fd_.reset(::open(writer.path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!writer.fd_.valid()) return DiskError(errno, "opening an upload");
  if (::flock(writer.fd_.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "UPLOAD_IN_PROGRESS", "",
                       "this upload is being written by another stream");
  }
  TS_ASSIGN_OR_RETURN(const Records records, ReadRecords(writer.fd_.get()));
  writer.end_ = records.end;
  writer.cursor_ = records.end;
  if (::ftruncate(writer.fd_.get(), static_cast<off_t>(records.end)) != 0) {
    return DiskError(errno, "cutting back an upload");
  }
  return writer;
}

absl::StatusOr<std::vector<SpoolRecord>> Spool::Scan(std::string_view submission_id) const {
  TS_ASSIGN_OR_RETURN(const base::UniqueFd fd, OpenReadOnly(submission_id));
  TS_ASSIGN_OR_RETURN(Records records, ReadRecords(fd.get()));
  if (records.damaged) {
    return base::Error(absl::StatusCode::kDataLoss, "SPOOL_CORRUPT", std::to_string(records.end),
                       "a stored upload is damaged at this byte");
  }
  return std::move(records.whole);
}

absl::StatusOr<base::UniqueFd> Spool::OpenReadOnly(std::string_view submission_id) const {
  TS_ASSIGN_OR_RETURN(const std::string path, PathOf(folder_, submission_id));
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.valid()) return fd;
  if (errno == ENOENT) {
    return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_SUBMISSION", submission_id,
                       "no upload has this id");
  }
  return DiskError(errno, "opening an upload");
}

absl::Status Spool::Remove(std::string_view submission_id) const {
  TS_ASSIGN_OR_RETURN(const std::string path, PathOf(folder_, submission_id));
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return DiskError(errno, "removing an upload");
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Spool::List() const {
  std::vector<std::string> ids;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder_, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.ends_with(kSuffix)) continue;
    std::string id = name.substr(0, name.size() - kSuffix.size());
    if (ValidId(id)) ids.push_back(std::move(id));
  }
  if (error) return DiskError(error.value(), "listing the spool");
  std::sort(ids.begin(), ids.end());
  return ids;
}

absl::StatusOr<std::uint64_t> Spool::UsedBytes() const {
  std::uint64_t bytes = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(folder_, error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    // A file may go while it is looked at.
    struct stat file {};
    if (::lstat(entry->path().c_str(), &file) == 0 && S_ISREG(file.st_mode)) {
      bytes += static_cast<std::uint64_t>(file.st_blocks) * 512;
    }
  }
  if (error) return DiskError(error.value(), "listing the spool");
  return bytes;
}

absl::StatusOr<std::uint64_t> Spool::FreeBytes() const {
  struct statvfs status {};
  if (::statvfs(folder_.c_str(), &status) != 0) return DiskError(errno, "asking for free space");
  return static_cast<std::uint64_t>(status.f_bavail) * static_cast<std::uint64_t>(status.f_frsize);
}

}  // namespace tomoserve::store
