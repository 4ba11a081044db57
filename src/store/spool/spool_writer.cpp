#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "store/files.h"
#include "store/spool/record.h"
#include "store/spool/writer_hash.h"
#include "tomoserve/base/status.h"
#include "tomoserve/store/spool.h"

namespace tomoserve::store {
namespace {

// Keys are echoed in messages and logs: no control characters, no endless ones.
bool ValidKey(std::string_view key) {
  if (key.empty() || key.size() > kMaxKeyBytes) return false;
  for (const char c : key) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return false;
  }
  return true;
}

absl::Status SizeError(std::uint64_t expected, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "INSTANCE_SIZE", std::to_string(expected), text);
}

absl::Status NotOpen() {
  return base::Error(absl::StatusCode::kFailedPrecondition, "NO_OPEN_INSTANCE", "", "no instance was begun");
}

}  // namespace

absl::Status SpoolWriter::Usable() const {
  if (!failed_) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInternal, "DISK_FAILED", "",
                     "an earlier write of this upload failed; it must be opened again");
}

absl::Status SpoolWriter::CutBack(absl::Status cause) {
  open_ = false;
  hash_.reset();
  cursor_ = end_;
  if (::ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0) failed_ = true;
  return cause;
}

absl::Status SpoolWriter::Begin(std::string_view instance_key, std::uint64_t length) {
  TS_RETURN_IF_ERROR(Usable());
  if (open_) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "INSTANCE_OPEN", "",
                       "the instance before is not ended");
  }
  if (!ValidKey(instance_key)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "KEY_INVALID", "",
                       "an instance key has 1 to 256 bytes and no control characters");
  }
  if (length > kMaxPayloadBytes) return SizeError(length, "the announced size is beyond every limit");
  const std::string head = EncodeHead(instance_key, length);
  const absl::Status written = WriteAt(fd_.get(), head, end_);
  if (!written.ok()) return CutBack(written);
  open_ = true;
  key_ = std::string(instance_key);
  expected_ = length;
  written_ = 0;
  cursor_ = end_ + head.size();
  hash_ = std::make_shared<Hash>();
  return absl::OkStatus();
}

absl::Status SpoolWriter::Append(std::string_view bytes) {
  TS_RETURN_IF_ERROR(Usable());
  if (!open_) return NotOpen();
  if (bytes.size() > expected_ - written_) {
    return CutBack(SizeError(expected_, "more bytes came than were announced"));
  }
  const absl::Status written = WriteAt(fd_.get(), bytes, cursor_);
  if (!written.ok()) return CutBack(written);
  hash_->sha256.Update(bytes);
  cursor_ += bytes.size();
  written_ += bytes.size();
  return absl::OkStatus();
}

absl::StatusOr<SpoolRecord> SpoolWriter::End() {
  TS_RETURN_IF_ERROR(Usable());
  if (!open_) return NotOpen();
  if (written_ != expected_) return CutBack(SizeError(expected_, "fewer bytes came than were announced"));
  std::string digest = hash_->sha256.HexDigest();
  const absl::Status written =
      WriteAt(fd_.get(), EncodeTrailer(EncodeHead(key_, expected_), digest), cursor_);
  if (!written.ok()) return CutBack(written);
  SpoolRecord record{.instance_key = std::move(key_),
                     .offset = cursor_ - written_,
                     .length = written_,
                     .sha256 = std::move(digest)};
  cursor_ += kTrailerBytes;
  end_ = cursor_;
  open_ = false;
  hash_.reset();
  return record;
}

absl::Status SpoolWriter::Abandon() {
  TS_RETURN_IF_ERROR(Usable());
  if (!open_) return absl::OkStatus();
  return CutBack(absl::OkStatus());
}

absl::Status SpoolWriter::Sync() {
  TS_RETURN_IF_ERROR(Usable());
  if (::fdatasync(fd_.get()) != 0) {
    // After a failed sync the kernel may call the lost pages clean: a second sync would lie.
    failed_ = true;
    return DiskError(errno, "syncing an upload");
  }
  if (!folder_synced_) {
    TS_RETURN_IF_ERROR(SyncFolder(std::filesystem::path(path_).parent_path().string()));
    folder_synced_ = true;
  }
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> SpoolWriter::OpenReadOnly() const {
  base::UniqueFd fd(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return DiskError(errno, "opening an upload");
  return fd;
}

}  // namespace tomoserve::store
