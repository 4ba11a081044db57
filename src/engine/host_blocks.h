// Host memory of tensors, kept for the next tensor of the same size. Private to the room.
//
// A forward pass makes and drops the same large tensors for every window. From the kernel each of them would
// come as pages to be mapped and cleared again: a third of a window's time on a CPU (docs/PERFORMANCE.md).
#pragma once

#include <c10/core/Allocator.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace tomoserve::engine {

// LibTorch's allocator of host memory. Blocks below kLeastBytes pass through. Each other one is a mapping of
// its own: given back, its pages are the system's at once. Kept blocks are given back, oldest first, before a
// new one would make blocks in use and kept ones together more than those in use were at most since the last
// Trim but one: the process does not grow by what is kept. Thread-safe.
class HostBlocks final : public c10::Allocator {
 public:
  static constexpr std::size_t kLeastBytes = std::size_t{256} << 10;

  // Throws what LibTorch's own allocator throws, after kept blocks have been given back and it failed again.
  c10::DataPtr allocate(std::size_t bytes) override;
  c10::DeleterFnPtr raw_deleter() const override { return &Return; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override;

  // Gives kept blocks back to the system.
  void Release();
  // Those that were more than what was in use at most since the last Trim: a large run does not count for
  // ever.
  void Trim();

  // Whole pages of blocks of at least kLeastBytes.
  std::size_t kept_bytes() const;
  std::size_t used_bytes() const;

  // Begins to count what the calling thread has in use at a time: the blocks of at least kLeastBytes that it
  // takes from now on. What others take beside it does not count, so that a pass can be measured while runs
  // go on.
  static void RestartPeak();
  // The most since then, bytes.
  static std::size_t PeakBytes();

  // Makes that of the process LibTorch's allocator from now on; not in builds with a sanitizer of memory or
  // threads, which shall see every tensor come and go.
  static void Install();

  // The process's. Created at the first call, never destroyed: tensors may outlive main.
  static HostBlocks& OfProcess();

 private:
  HostBlocks() = default;  // Return knows only the process's

  struct Block {
    std::size_t bytes = 0;
    std::uint64_t kept_since = 0;  // 0: in use
  };

  static void Return(void* memory);  // to OfProcess()
  void* Take(std::size_t bytes);
  bool Keep(void* memory);
  // The rest: under the lock. The newest kept block of this size, the likeliest to be in a processor's cache.
  void* Kept(std::size_t bytes);
  // Oldest first, until used and kept bytes are at most `most`.
  void Evict(std::size_t most);

  mutable std::mutex mutex_;
  std::unordered_map<void*, Block> blocks_;  // by where they begin; guarded by mutex_, as all below
  std::uint64_t returned_ = 0;               // blocks so far
  std::size_t kept_bytes_ = 0;
  std::size_t used_bytes_ = 0;
  std::size_t most_used_bytes_ = 0;  // since the last Trim but one
  std::size_t most_since_trim_ = 0;  // since the last one
};

}  // namespace tomoserve::engine
