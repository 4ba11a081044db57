#include "tomoserve/ipc/record_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

using Clock = std::chrono::steady_clock;

// Room for a full record with its bookkeeping in the kernel, several times.
constexpr int kSocketBufferBytes = 256 * 1024;

absl::Status PeerGone() {
  return base::Error(absl::StatusCode::kUnavailable, "PEER_GONE", "",
                     "the other end of the socket is closed");
}

absl::Status Timeout() {
  return base::Error(absl::StatusCode::kDeadlineExceeded, "TIMEOUT", "", "the socket was not ready in time");
}

absl::Status SystemError(const char* call, int error) {
  return base::Error(absl::StatusCode::kInternal, "SOCKET_FAILED", std::to_string(error),
                     std::string(call) + ": " + std::strerror(error));
}

// Takes every descriptor of a received message, so that none is lost whatever is wrong with the record.
std::vector<base::UniqueFd> TakeFds(msghdr& message) {
  std::vector<base::UniqueFd> fds;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (control->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(control) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

// Waits until `fd` is readable (or its peer is gone); TIMEOUT at `deadline`.
absl::Status WaitReadable(int fd, Clock::time_point deadline) {
  while (true) {
    const auto left = std::max(deadline - Clock::now(), Clock::duration::zero());
    timespec wait{};
    wait.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
    wait.tv_nsec =
        std::chrono::duration_cast<std::chrono::nanoseconds>(left - std::chrono::seconds(wait.tv_sec))
            .count();
    pollfd entry{fd, POLLIN, 0};
    const int ready = ::ppoll(&entry, 1, &wait, nullptr);
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return Timeout();
    if (errno != EINTR) return SystemError("ppoll", errno);
  }
}

// Stands for a message in a memfd: field number 0 does not exist, so no message of ours begins with a zero
// byte.
constexpr std::string_view kLargeMark("\0large", 6);
constexpr int kAllSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

absl::Status Malformed(std::size_t value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECORD_MALFORMED", std::to_string(value), text);
}

// Parses a record; descriptors where none are expected make it malformed.
absl::Status Unpack(Record record, google::protobuf::MessageLite& message, std::vector<base::UniqueFd>* fds) {
  if (fds == nullptr && !record.fds.empty()) {
    return Malformed(record.fds.size(), "a record with descriptors where none are expected");
  }
  if (!message.ParseFromString(record.bytes)) {
    return Malformed(record.bytes.size(), "a record that is no such message");
  }
  if (fds != nullptr) *fds = std::move(record.fds);
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> WriteLarge(const google::protobuf::MessageLite& message, std::size_t size) {
  base::UniqueFd memfd(::memfd_create("tomoserve-message", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid() || ::ftruncate(memfd.get(), static_cast<off_t>(size)) != 0) {
    return SystemError("memfd_create", errno);
  }
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (data == MAP_FAILED) return SystemError("mmap", errno);
  const bool written = message.SerializeToArray(data, static_cast<int>(size));
  ::munmap(data, size);
  if (!written) return base::Error(absl::StatusCode::kInternal, "RECORD_MALFORMED", "", "not serialisable");
  if (::fcntl(memfd.get(), F_ADD_SEALS, kAllSeals) != 0) return SystemError("F_ADD_SEALS", errno);
  return memfd;
}

absl::StatusOr<std::string> ReadLarge(int memfd) {
  const int seals = ::fcntl(memfd, F_GET_SEALS);
  struct stat info {};
  if (seals < 0 || (seals & kAllSeals) != kAllSeals || ::fstat(memfd, &info) != 0) {
    return Malformed(0, "a large message that could still change");
  }
  const auto size = static_cast<std::size_t>(info.st_size);
  if (size <= kMaxRecordBytes || size > kMaxLargeBytes)
    return Malformed(size, "a large message of this size");
  std::string bytes(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const ssize_t count = ::pread(memfd, bytes.data() + done, size - done, static_cast<off_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return SystemError("pread", errno);
    done += static_cast<std::size_t>(count);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<std::pair<RecordSocket, RecordSocket>> RecordSocket::Pair() {
  std::array<int, 2> ends{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return SystemError("socketpair", errno);
  }
  std::pair<RecordSocket, RecordSocket> pair{RecordSocket(base::UniqueFd(ends[0])),
                                             RecordSocket(base::UniqueFd(ends[1]))};
  for (const int end : ends) {
    // A smaller buffer than wanted (net.core.wmem_max) still carries one record.
    ::setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  }
  return pair;
}

absl::Status RecordSocket::SetSendTimeout(std::chrono::milliseconds timeout) {
  timeval value{};
  value.tv_sec = timeout.count() / 1000;
  value.tv_usec = (timeout.count() % 1000) * 1000;
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value)) != 0) {
    return SystemError("setsockopt", errno);
  }
  return absl::OkStatus();
}

absl::Status RecordSocket::Send(const google::protobuf::MessageLite& message, std::span<const int> fds) {
  const std::size_t size = message.ByteSizeLong();
  if (size > kMaxRecordBytes || fds.size() > kMaxRecordFds) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECORD_TOO_LARGE",
                       std::to_string(size > kMaxRecordBytes ? size : fds.size()),
                       "a record holds at most 65536 bytes and 32 descriptors");
  }
  if (size == 0) {
    // The receiver could not tell it from the end of the socket.
    return base::Error(absl::StatusCode::kInvalidArgument, "RECORD_EMPTY", "",
                       "a record without a set field");
  }
  std::string bytes;
  if (!message.SerializeToString(&bytes)) {
    return base::Error(absl::StatusCode::kInternal, "RECORD_MALFORMED", "",
                       "the record could not be serialised");
  }

  return SendBytes(bytes, fds);
}

absl::Status RecordSocket::SendBytes(std::string& bytes, std::span<const int> fds) {
  iovec part{bytes.data(), bytes.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxRecordFds * sizeof(int))> control{};
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* first = CMSG_FIRSTHDR(&header);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(first), fds.data(), fds.size_bytes());
  }
  while (true) {
    if (::sendmsg(fd_.get(), &header, MSG_NOSIGNAL) >= 0) return absl::OkStatus();
    switch (errno) {
      case EINTR:
        continue;
      case EPIPE:
      case ECONNRESET:
      case ENOTCONN:
        return PeerGone();
      case EAGAIN:
        return Timeout();
      case EMSGSIZE:
        return base::Error(absl::StatusCode::kInvalidArgument, "RECORD_TOO_LARGE",
                           std::to_string(bytes.size()), "the record is larger than the socket's buffer");
      default:
        return SystemError("sendmsg", errno);
    }
  }
}

absl::StatusOr<Record> RecordSocket::Receive(std::optional<std::chrono::milliseconds> timeout) {
  const auto deadline = timeout ? Clock::now() + *timeout : Clock::time_point::max();
  const auto bytes = std::make_unique_for_overwrite<char[]>(kMaxRecordBytes);
  bool was_reset = false;
  while (true) {
    if (timeout) TS_RETURN_IF_ERROR(WaitReadable(fd_.get(), deadline));
    iovec part{bytes.get(), kMaxRecordBytes};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxRecordFds * sizeof(int))> control;
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | (timeout ? MSG_DONTWAIT : 0));
    if (size < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      // The peer died with records of ours unread. This is reported once, and before the records that it
      // had sent: those are fetched first.
      if (errno == ECONNRESET && !std::exchange(was_reset, true)) continue;
      if (errno == ECONNRESET || errno == ENOTCONN) return PeerGone();
      return SystemError("recvmsg", errno);
    }
    Record record;
    record.fds = TakeFds(header);
    if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
      return base::Error(absl::StatusCode::kDataLoss, "RECORD_TRUNCATED", "",
                         "a record larger than 65536 bytes or 32 descriptors");
    }
    if (size == 0) return PeerGone();
    record.bytes.assign(bytes.get(), static_cast<std::size_t>(size));
    return record;
  }
}

absl::Status RecordSocket::ReceiveMessage(google::protobuf::MessageLite& message,
                                          std::vector<base::UniqueFd>* fds,
                                          std::optional<std::chrono::milliseconds> timeout) {
  TS_ASSIGN_OR_RETURN(Record record, Receive(timeout));
  return Unpack(std::move(record), message, fds);
}

absl::Status RecordSocket::ReceiveLarge(google::protobuf::MessageLite& message,
                                        std::vector<base::UniqueFd>* fds,
                                        std::optional<std::chrono::milliseconds> timeout) {
  TS_ASSIGN_OR_RETURN(Record record, Receive(timeout));
  if (record.bytes == kLargeMark) {
    if (record.fds.empty()) return Malformed(0, "a large message without its memfd");
    const base::UniqueFd memfd = std::move(record.fds.back());
    record.fds.pop_back();
    TS_ASSIGN_OR_RETURN(record.bytes, ReadLarge(memfd.get()));
  }
  return Unpack(std::move(record), message, fds);
}

absl::Status RecordSocket::SendLarge(const google::protobuf::MessageLite& message, std::span<const int> fds) {
  const std::size_t size = message.ByteSizeLong();
  if (size <= kMaxRecordBytes) return Send(message, fds);
  if (size > kMaxLargeBytes || fds.size() >= kMaxRecordFds) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RECORD_TOO_LARGE", std::to_string(size),
                       "a large message holds at most 64 MiB, and its memfd is one of 32 descriptors");
  }
  TS_ASSIGN_OR_RETURN(const base::UniqueFd memfd, WriteLarge(message, size));
  std::vector<int> all(fds.begin(), fds.end());
  all.push_back(memfd.get());
  std::string mark(kLargeMark);
  return SendBytes(mark, all);
}

void RecordSocket::Shutdown() {
  if (fd_.valid()) ::shutdown(fd_.get(), SHUT_RDWR);
}

}  // namespace tomoserve::ipc
