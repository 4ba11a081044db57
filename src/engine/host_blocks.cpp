#include "engine/host_blocks.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>

namespace tomoserve::engine {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

std::size_t Rounded(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

// Zeroed pages; null where there are none. Where huge pages fit they are asked for, and the mapping begins
// with one: one fault instead of 512 (where the kernel has to make room for one first, that fault is longer).
void* Map(std::size_t bytes) {
  const std::size_t slack = bytes < kHugePageBytes ? 0 : kHugePageBytes;
  void* const mapped =
      ::mmap(nullptr, bytes + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return nullptr;
  if (slack == 0) return mapped;
  auto* const first = static_cast<std::byte*>(mapped);
  const std::size_t before = Rounded(reinterpret_cast<std::uintptr_t>(first), kHugePageBytes) -
                             reinterpret_cast<std::uintptr_t>(first);
  if (before > 0) ::munmap(first, before);
  if (slack > before) ::munmap(first + before + bytes, slack - before);
#ifdef MADV_HUGEPAGE
  // What the kernel answers does not matter.
  static_cast<void>(::madvise(first + before, bytes / kHugePageBytes * kHugePageBytes, MADV_HUGEPAGE));
#endif
  return first + before;
}

// Of the calling thread since RestartPeak.
struct InUse {
  std::size_t now = 0;
  std::size_t most = 0;
  void Taken(std::size_t bytes) {
    now += bytes;
    most = std::max(most, now);
  }
  // It may have been another thread's, or from before.
  void Returned(std::size_t bytes) { now -= std::min(now, bytes); }
};
thread_local InUse in_use;

}  // namespace

void HostBlocks::Install() {
#ifndef TOMOSERVE_SANITIZED
  c10::SetCPUAllocator(&OfProcess());
#endif
}

HostBlocks& HostBlocks::OfProcess() {
  static HostBlocks* const blocks = new HostBlocks;
  return *blocks;
}

c10::DataPtr HostBlocks::allocate(std::size_t bytes) {
  void* const memory = bytes < kLeastBytes ? c10::alloc_cpu(bytes) : Take(bytes);
  return {memory, memory, &Return, c10::Device(c10::kCPU)};
}

void HostBlocks::copy_data(void* to, const void* from, std::size_t bytes) const {
  default_copy_data(to, from, bytes);
}

void* HostBlocks::Take(std::size_t asked) {
  TORCH_CHECK(asked < SIZE_MAX / 2, "DefaultCPUAllocator: can't allocate memory: ", asked, " bytes");
  const std::size_t bytes = Rounded(asked, kPageBytes);
  const std::lock_guard lock(mutex_);
  most_used_bytes_ = std::max(most_used_bytes_, used_bytes_ + bytes);
  if (void* const kept = Kept(bytes)) {
    in_use.Taken(bytes);
    return kept;
  }
  Evict(most_used_bytes_ - bytes);
  void* memory = Map(bytes);
  if (memory == nullptr) {
    Evict(0);
    memory = Map(bytes);
  }
  if (memory == nullptr) most_used_bytes_ = used_bytes_;  // it never was as much
  TORCH_CHECK(memory != nullptr, "DefaultCPUAllocator: can't allocate memory: ", asked, " bytes");
  try {
    blocks_.emplace(memory, Block{bytes});
  } catch (...) {
    ::munmap(memory, bytes);
    throw;
  }
  used_bytes_ += bytes;
  most_since_trim_ = std::max(most_since_trim_, used_bytes_);
  in_use.Taken(bytes);
  return memory;
}

void* HostBlocks::Kept(std::size_t bytes) {
  auto newest = blocks_.end();
  for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
    if (block->second.bytes != bytes || block->second.kept_since == 0) continue;
    if (newest == blocks_.end() || block->second.kept_since > newest->second.kept_since) newest = block;
  }
  if (newest == blocks_.end()) return nullptr;
  newest->second.kept_since = 0;
  kept_bytes_ -= bytes;
  used_bytes_ += bytes;
  most_since_trim_ = std::max(most_since_trim_, used_bytes_);
  return newest->first;
}

void HostBlocks::Return(void* memory) {
  if (memory != nullptr && !OfProcess().Keep(memory)) c10::free_cpu(memory);
}

bool HostBlocks::Keep(void* memory) {
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(memory);
  if (found == blocks_.end()) return false;
  found->second.kept_since = ++returned_;
  used_bytes_ -= found->second.bytes;
  kept_bytes_ += found->second.bytes;
  in_use.Returned(found->second.bytes);
  return true;
}

void HostBlocks::Evict(std::size_t most) {
  while (kept_bytes_ > 0 && used_bytes_ + kept_bytes_ > most) {
    auto oldest = blocks_.end();
    for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
      if (block->second.kept_since == 0) continue;
      if (oldest == blocks_.end() || block->second.kept_since < oldest->second.kept_since) oldest = block;
    }
    kept_bytes_ -= oldest->second.bytes;
    ::munmap(oldest->first, oldest->second.bytes);
    blocks_.erase(oldest);
  }
}

void HostBlocks::Release() {
  const std::lock_guard lock(mutex_);
  Evict(0);
  most_used_bytes_ = used_bytes_;
  most_since_trim_ = used_bytes_;
}

void HostBlocks::Trim() {
  const std::lock_guard lock(mutex_);
  most_used_bytes_ = most_since_trim_;
  most_since_trim_ = used_bytes_;
  Evict(most_used_bytes_);
}

void HostBlocks::RestartPeak() { in_use = {}; }

std::size_t HostBlocks::PeakBytes() { return in_use.most; }

std::size_t HostBlocks::kept_bytes() const {
  const std::lock_guard lock(mutex_);
  return kept_bytes_;
}

std::size_t HostBlocks::used_bytes() const {
  const std::lock_guard lock(mutex_);
  return used_bytes_;
}

}  // namespace tomoserve::engine
