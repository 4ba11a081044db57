// Pixels live in arenas: lists of memfds of at most 256 MiB, created and sized by the front and sealed
// SHRINK|GROW|SEAL before they are shared. Children map single granted slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

inline constexpr std::uint64_t kMaxMemfdBytes = 256ull << 20;

// A sealed (SHRINK|GROW|SEAL) memfd of exactly `bytes`, close-on-exec.
absl::StatusOr<base::UniqueFd> CreateSealedMemfd(const char* name, std::uint64_t bytes);

// A mapping of a range of a descriptor. Move-only.
class Mapping {
 public:
  Mapping() = default;
  ~Mapping();
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  // `offset` must be page-aligned. Checks by fstat that the range lies inside the file, and, if
  // `require_seals`, that the file cannot shrink (SLOT_INVALID otherwise): no SIGBUS from a hostile peer.
  // `populate` makes all pages at once, cheaper than one by one for who touches them all.
  static absl::StatusOr<Mapping> Map(int fd, std::uint64_t offset, std::uint64_t bytes, bool writable,
                                     bool require_seals = true, bool populate = false);
  std::span<std::byte> bytes() const { return {data_, size_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Host memory that all arenas and label maps share; thread-safe.
class HostLedger {
 public:
  explicit HostLedger(std::uint64_t limit_bytes) : limit_(limit_bytes) {}
  // kResourceExhausted HOST_MEMORY when it does not fit now (value: bytes asked).
  absl::Status Take(std::uint64_t bytes);
  void Give(std::uint64_t bytes);
  std::uint64_t used() const;
  std::uint64_t limit() const { return limit_; }

 private:
  mutable std::mutex mutex_;
  const std::uint64_t limit_;
  std::uint64_t used_ = 0;
};

// Slots of one size, one per frame, page-aligned, none across a memfd's border. Gives its bytes back to the
// ledger at the end. Immutable after Create; thread-safe.
class Arena {
 public:
  // `ledger` may be null (offline use). At most 29 memfds (one record's descriptors, less two label maps and
  // a large message): ARENA_TOO_LARGE.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(std::uint64_t slot_bytes, std::uint32_t slots,
                                                       HostLedger* ledger);
  ~Arena();
  std::uint32_t slots() const { return slots_; }
  // Slot number `index` with `arena` counting this arena's descriptors.
  v1::Slot slot(std::uint32_t index) const;
  // All descriptors, in the order that slot().arena counts.
  std::vector<int> fds() const;
  // Makes the memory of a slot's first `bytes`, zeroed, before anybody maps it: a write makes pages in a
  // fifth less time than faults of a mapping do. Where the system refuses memory instead of ending processes,
  // that is an error here (HOST_MEMORY) instead of a signal there.
  absl::Status MakePages(std::uint32_t index, std::uint64_t bytes) const;
  // Read-only view of a slot.
  absl::StatusOr<Mapping> Read(std::uint32_t index) const;

 private:
  Arena() = default;
  std::vector<base::UniqueFd> memfds_;
  std::uint64_t slot_bytes_ = 0;
  std::uint64_t stride_ = 0;
  std::uint32_t per_memfd_ = 0;
  std::uint32_t slots_ = 0;
  HostLedger* ledger_ = nullptr;
  std::uint64_t taken_ = 0;
};

}  // namespace tomoserve::ipc
