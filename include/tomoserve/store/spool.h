// The spool: one append-only file per submission, framed records (head: magic, version, key length, payload
// length, check, key; payload; trailer: SHA-256 of the payload, check of the head). The bytes stand in
// store/spool/record.h. An acknowledgement needs Sync.
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

// Writer of one submission's file, which it locks. Confined to one thread at a time. The front deletes files
// of submissions that never were acknowledged. An error of Begin, Append or End cuts the file back to the
// last whole record, and the next instance may begin. Any method: kInternal DISK_FAILED after a failed sync
// or cut.
class SpoolWriter {
 public:
  // Begins a record of exactly `length` payload bytes. Errors: kFailedPrecondition INSTANCE_OPEN if one is
  // open, kInvalidArgument KEY_INVALID (1 to 256 bytes, no control characters) or INSTANCE_SIZE (over 1 TiB),
  // DISK_FULL/DISK_FAILED.
  absl::Status Begin(std::string_view instance_key, std::uint64_t length);
  // Appends payload bytes; kResourceExhausted DISK_FULL on ENOSPC, kInvalidArgument INSTANCE_SIZE if more
  // than `length` come, kFailedPrecondition NO_OPEN_INSTANCE.
  absl::Status Append(std::string_view bytes);
  // Ends the record; kInvalidArgument INSTANCE_SIZE if bytes are missing, kFailedPrecondition
  // NO_OPEN_INSTANCE.
  absl::StatusOr<SpoolRecord> End();
  // Drops an open record (the client vanished): cuts the file back. Nothing to do where none is open.
  absl::Status Abandon();
  // fdatasync of the file, and fsync of its folder the first time. DISK_FULL/DISK_FAILED; a writer whose sync
  // failed is spent, because a second sync may succeed without the lost pages.
  absl::Status Sync();
  // A read-only descriptor of the same file.
  absl::StatusOr<base::UniqueFd> OpenReadOnly() const;
  std::uint64_t bytes() const { return end_; }

 private:
  friend class Spool;
  SpoolWriter() = default;
  absl::Status Usable() const;
  absl::Status CutBack(absl::Status cause);
  std::string path_;
  base::UniqueFd fd_;
  std::uint64_t end_ = 0;     // end of the last whole record
  std::uint64_t cursor_ = 0;  // where the next byte goes
  std::string key_;
  std::uint64_t expected_ = 0;
  std::uint64_t written_ = 0;
  bool open_ = false;
  bool folder_synced_ = false;
  bool failed_ = false;
  struct Hash;
  std::shared_ptr<Hash> hash_;
};

// The folder. Thread-safe. Submission ids are file names: 1 to 128 letters, digits, '.', '-', '_', no leading
// dot, else kInvalidArgument SUBMISSION_ID_INVALID.
class Spool {
 public:
  // Makes the folder where it is absent. DISK_FULL/DISK_FAILED.
  static absl::StatusOr<Spool> Open(const std::string& folder);
  // Makes the file, or opens it and cuts it back after its last whole record (resume: every payload is read
  // and checked). Never for an acknowledged submission. Errors: kFailedPrecondition UPLOAD_IN_PROGRESS while
  // another writer has it, DISK_FULL/DISK_FAILED.
  absl::StatusOr<SpoolWriter> OpenWriter(std::string_view submission_id) const;
  // Whole records of a file, each payload checked against its digest; a record that is cut off at the file's
  // end is left out. Errors: kNotFound UNKNOWN_SUBMISSION, kDataLoss SPOOL_CORRUPT (value: byte offset) where
  // written bytes are wrong.
  absl::StatusOr<std::vector<SpoolRecord>> Scan(std::string_view submission_id) const;
  // kNotFound UNKNOWN_SUBMISSION.
  absl::StatusOr<base::UniqueFd> OpenReadOnly(std::string_view submission_id) const;
  // Removing what is not there is fine.
  absl::Status Remove(std::string_view submission_id) const;
  // Ids of all files.
  absl::StatusOr<std::vector<std::string>> List() const;
  // Bytes that all files occupy. Looks at each of them.
  absl::StatusOr<std::uint64_t> UsedBytes() const;
  // Bytes free on the file system for us.
  absl::StatusOr<std::uint64_t> FreeBytes() const;

 private:
  std::string folder_;
};

}  // namespace tomoserve::store
