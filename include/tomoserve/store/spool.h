// The spool: one append-only file per submission, framed records (header: magic, version, key length,
// payload length; key; payload; trailer: SHA-256 of the payload). An acknowledgement needs Sync.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::store {

// A finished record: where its payload lies.
struct SpoolRecord {
  std::string instance_key;
  std::uint64_t offset = 0;  // of the payload
  std::uint64_t length = 0;
  std::string sha256;  // hex
};

// Writer of one submission's file. Confined to one thread at a time. The front deletes files of submissions
// that never were acknowledged.
class SpoolWriter {
 public:
  // Begins a record of exactly `length` payload bytes. Errors: FAILED_PRECONDITION if one is open,
  // INVALID_ARGUMENT KEY_INVALID.
  absl::Status Begin(std::string_view instance_key, std::uint64_t length);
  // Appends payload bytes; kResourceExhausted DISK_FULL on ENOSPC (the file is cut back to the last whole
  // record), INVALID_ARGUMENT INSTANCE_SIZE if more than `length` come.
  absl::Status Append(std::string_view bytes);
  // Ends the record; INVALID_ARGUMENT INSTANCE_SIZE if bytes are missing.
  absl::StatusOr<SpoolRecord> End();
  // Drops an open record (the client vanished): cuts the file back.
  absl::Status Abandon();
  // fdatasync of the file, and fsync of its folder the first time. DISK_FULL/DISK_FAILED.
  absl::Status Sync();
  // A read-only descriptor of the same file.
  absl::StatusOr<base::UniqueFd> OpenReadOnly() const;
  std::uint64_t bytes() const { return end_; }

 private:
  friend class Spool;
  SpoolWriter() = default;
  std::string path_;
  base::UniqueFd fd_;
  std::uint64_t end_ = 0;     // end of the last whole record
  std::uint64_t cursor_ = 0;  // where the next byte goes
  std::string key_;
  std::uint64_t expected_ = 0;
  std::uint64_t written_ = 0;
  bool open_ = false;
  bool folder_synced_ = false;
  struct Hash;
  std::shared_ptr<Hash> hash_;
};

// The folder. Thread-safe.
class Spool {
 public:
  static absl::StatusOr<Spool> Open(const std::string& folder);
  // Makes the file, or opens it and cuts it back after its last whole record (resume).
  absl::StatusOr<SpoolWriter> OpenWriter(std::string_view submission_id) const;
  // Whole records of a file, each payload checked against its digest.
  absl::StatusOr<std::vector<SpoolRecord>> Scan(std::string_view submission_id) const;
  absl::StatusOr<base::UniqueFd> OpenReadOnly(std::string_view submission_id) const;
  absl::Status Remove(std::string_view submission_id) const;
  // Ids of all files.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Bytes free on the file system for us.
  absl::StatusOr<std::uint64_t> FreeBytes() const;

 private:
  std::string folder_;
};

}  // namespace tomoserve::store
