#include "tomoserve/ipc/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::ipc {
namespace {

// Three descriptors of a record are left: for label map or spool, for a region's label map, for a large
// message.
constexpr std::uint64_t kMaxArenaMemfds = kMaxRecordFds - 3;
// Larger sizes are refused before arithmetic on them could overflow.
constexpr std::uint64_t kMaxSlotBytes = 1ull << 40;
// Stays in the fastest cache while it is copied from.
constexpr std::size_t kZeroBytes = 16384;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

std::uint64_t PageBytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

absl::Status SystemError(const char* call, int error) {
  const bool memory = error == ENOMEM || error == ENOSPC || error == EMFILE || error == ENFILE;
  return base::Error(memory ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kInternal,
                     memory ? "HOST_MEMORY" : "MEMFD_FAILED", std::to_string(error),
                     std::string(call) + ": " + std::strerror(error));
}

absl::Status SlotInvalid(std::uint64_t value, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "SLOT_INVALID", std::to_string(value), text);
}

int MemfdCreate(const char* name) {
  constexpr unsigned int kNoExecSeal = 0x0008U;  // MFD_NOEXEC_SEAL, Linux 6.3
  const int fd = ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal);
  if (fd >= 0 || errno != EINVAL) return fd;
  return ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

}  // namespace

absl::StatusOr<base::UniqueFd> CreateSealedMemfd(const char* name, std::uint64_t bytes) {
  if (bytes > kMaxSlotBytes) {
    return base::Error(absl::StatusCode::kResourceExhausted, "HOST_MEMORY", std::to_string(bytes),
                       "a memfd of this size is never granted");
  }
  base::UniqueFd fd(MemfdCreate(name));
  if (!fd.valid()) return SystemError("memfd_create", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return SystemError("ftruncate", errno);
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return SystemError("fcntl", errno);
  return fd;
}

Mapping::~Mapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Mapping::Mapping(Mapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

absl::StatusOr<Mapping> Mapping::Map(int fd, std::uint64_t offset, std::uint64_t bytes, bool writable,
                                     bool require_seals, bool populate) {
  if (bytes == 0) return SlotInvalid(bytes, "an empty range cannot be mapped");
  if (offset % PageBytes() != 0) return SlotInvalid(offset, "the range does not begin at a page");
  struct stat file {};
  if (::fstat(fd, &file) != 0) return SlotInvalid(static_cast<std::uint64_t>(errno), "no such descriptor");
  if (!S_ISREG(file.st_mode)) return SlotInvalid(file.st_mode, "the descriptor is no file");
  const auto size = static_cast<std::uint64_t>(std::max<off_t>(file.st_size, 0));
  if (offset > size || bytes > size - offset) return SlotInvalid(bytes, "the range ends outside the file");
  if (require_seals) {
    const int seals = ::fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
      return SlotInvalid(0, "the file could shrink under a reader");
  }
  void* data = ::mmap(nullptr, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ,
                      populate ? MAP_SHARED | MAP_POPULATE : MAP_SHARED, fd, static_cast<off_t>(offset));
  if (data == MAP_FAILED) return SystemError("mmap", errno);
  Mapping mapping;
  mapping.data_ = static_cast<std::byte*>(data);
  mapping.size_ = bytes;
  return mapping;
}

absl::Status HostLedger::Take(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > limit_ - used_) {
    return base::Error(absl::StatusCode::kResourceExhausted, "HOST_MEMORY", std::to_string(bytes),
                       "does not fit into the host memory that is free now");
  }
  used_ += bytes;
  return absl::OkStatus();
}

void HostLedger::Give(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_ -= std::min(bytes, used_);
}

std::uint64_t HostLedger::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(std::uint64_t slot_bytes, std::uint32_t slots,
                                                     HostLedger* ledger) {
  if (slot_bytes == 0 || slots == 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "ARENA_EMPTY", std::to_string(slots),
                       "an arena needs slots with a size");
  }
  if (slot_bytes > kMaxSlotBytes) {
    return base::Error(absl::StatusCode::kResourceExhausted, "ARENA_TOO_LARGE", std::to_string(slot_bytes),
                       "a slot of this size is never granted");
  }
  const std::uint64_t page = PageBytes();
  const std::uint64_t stride = (slot_bytes + page - 1) / page * page;
  const std::uint64_t per_memfd = std::max<std::uint64_t>(kMaxMemfdBytes / stride, 1);
  const std::uint64_t memfds = (slots + per_memfd - 1) / per_memfd;
  if (memfds > kMaxArenaMemfds) {
    return base::Error(absl::StatusCode::kResourceExhausted, "ARENA_TOO_LARGE", std::to_string(memfds),
                       "the slots need more than 31 memfds");
  }

  std::unique_ptr<Arena> arena(new Arena());
  arena->slot_bytes_ = slot_bytes;
  arena->stride_ = stride;
  arena->per_memfd_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(per_memfd, slots));
  arena->slots_ = slots;
  if (ledger != nullptr) {
    TS_RETURN_IF_ERROR(ledger->Take(stride * slots));
    arena->ledger_ = ledger;
    arena->taken_ = stride * slots;
  }
  for (std::uint64_t left = slots; left > 0;) {
    const std::uint64_t here = std::min(per_memfd, left);
    TS_ASSIGN_OR_RETURN(base::UniqueFd memfd, CreateSealedMemfd("tomoserve-arena", here * stride));
    arena->memfds_.push_back(std::move(memfd));
    left -= here;
  }
  return arena;
}

Arena::~Arena() {
  memfds_.clear();
  if (ledger_ != nullptr) ledger_->Give(taken_);
}

v1::Slot Arena::slot(std::uint32_t index) const {
  v1::Slot slot;
  slot.set_arena(index / per_memfd_);
  slot.set_offset(index % per_memfd_ * stride_);
  slot.set_bytes(slot_bytes_);
  return slot;
}

std::vector<int> Arena::fds() const {
  std::vector<int> fds;
  fds.reserve(memfds_.size());
  for (const base::UniqueFd& memfd : memfds_) fds.push_back(memfd.get());
  return fds;
}

absl::Status Arena::MakePages(std::uint32_t index, std::uint64_t bytes) const {
  if (index >= slots_) return SlotInvalid(index, "the arena has no such slot");
  if (bytes > slot_bytes_) return SlotInvalid(bytes, "more bytes than the slot has");
  static constexpr std::array<char, kZeroBytes> kZeros{};
  const v1::Slot place = slot(index);
  // Whole pages: of a part of one the kernel would clear the rest.
  const std::uint64_t end =
      place.offset() + std::min((bytes + PageBytes() - 1) / PageBytes() * PageBytes(), stride_);
  for (std::uint64_t at = place.offset(); at < end;) {
    const ssize_t written = ::pwrite(memfds_[place.arena()].get(), kZeros.data(),
                                     std::min<std::uint64_t>(kZeroBytes, end - at), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SystemError("pwrite", written < 0 ? errno : ENOSPC);
    at += static_cast<std::uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::StatusOr<Mapping> Arena::Read(std::uint32_t index) const {
  if (index >= slots_) return SlotInvalid(index, "the arena has no such slot");
  const v1::Slot place = slot(index);
  return Mapping::Map(memfds_[place.arena()].get(), place.offset(), place.bytes(), false);
}

}  // namespace tomoserve::ipc
