// SOCK_SEQPACKET: one message = one protobuf record (<= 64 KiB) with its descriptors (<= 32).
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/message_lite.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::ipc {

inline constexpr std::size_t kMaxRecordBytes = 64 * 1024;
inline constexpr std::size_t kMaxRecordFds = 32;
inline constexpr std::size_t kMaxLargeBytes = 64 << 20;

struct Record {
  std::string bytes;
  std::vector<base::UniqueFd> fds;  // close-on-exec
};

// One end of a pair. Send and Receive may be called from different threads, but each from one at a time.
class RecordSocket {
 public:
  RecordSocket() = default;
  explicit RecordSocket(base::UniqueFd fd) : fd_(std::move(fd)) {}

  // A connected pair, close-on-exec.
  static absl::StatusOr<std::pair<RecordSocket, RecordSocket>> Pair();

  // Errors: RECORD_TOO_LARGE, RECORD_EMPTY (a message without a set field cannot be told from the end),
  // PEER_GONE (EPIPE/ECONNRESET), TIMEOUT (only after SetSendTimeout), or kInternal.
  absl::Status Send(const google::protobuf::MessageLite& message, std::span<const int> fds = {});

  // Waits for a record; no timeout: for ever. Errors: PEER_GONE at end of socket, kDeadlineExceeded
  // TIMEOUT, RECORD_TRUNCATED (MSG_TRUNC or MSG_CTRUNC: fatal, close the socket).
  absl::StatusOr<Record> Receive(std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  // Receive and parse; RECORD_MALFORMED if it does not parse. fds may be null if none are expected: then
  // a record with descriptors is RECORD_MALFORMED.
  absl::Status ReceiveMessage(google::protobuf::MessageLite& message, std::vector<base::UniqueFd>* fds,
                              std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  // From now on Send gives up with kDeadlineExceeded TIMEOUT when a peer that does not read has filled the
  // socket's buffer for so long. Without it Send waits for ever.
  absl::Status SetSendTimeout(std::chrono::milliseconds timeout);

  // As Send; a message of more than kMaxRecordBytes travels in a memfd sealed against every change, as the
  // record's last descriptor. The receiver must use ReceiveLarge. Errors as Send; RECORD_TOO_LARGE above
  // kMaxLargeBytes.
  absl::Status SendLarge(const google::protobuf::MessageLite& message, std::span<const int> fds = {});

  // As ReceiveMessage, and takes messages that SendLarge put into a memfd. That memfd is checked (seals,
  // size) before a byte is read and is not among `fds`. Errors as ReceiveMessage.
  absl::Status ReceiveLarge(google::protobuf::MessageLite& message, std::vector<base::UniqueFd>* fds,
                            std::optional<std::chrono::milliseconds> timeout = std::nullopt);

  int fd() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }
  void Close() { fd_.reset(); }
  // Ends both directions without closing: a blocked Receive on either side returns PEER_GONE.
  void Shutdown();

 private:
  absl::Status SendBytes(std::string& bytes, std::span<const int> fds);

  base::UniqueFd fd_;
};

}  // namespace tomoserve::ipc
