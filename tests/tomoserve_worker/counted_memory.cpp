#include "tomoserve_worker/counted_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<std::int64_t> in_use{0};
std::atomic<std::int64_t> most{0};

void Taken(std::int64_t bytes) {
  const std::int64_t now = in_use.fetch_add(bytes) + bytes;
  std::int64_t before = most.load();
  while (now > before && !most.compare_exchange_weak(before, now)) {
  }
}

void* Take(std::size_t bytes, std::size_t alignment) {
  void* memory = nullptr;
  if (::posix_memalign(&memory, alignment, bytes == 0 ? 1 : bytes) != 0) throw std::bad_alloc();
  Taken(static_cast<std::int64_t>(::malloc_usable_size(memory)));
  return memory;
}

void GiveBack(void* memory) {
  if (memory == nullptr) return;
  in_use.fetch_sub(static_cast<std::int64_t>(::malloc_usable_size(memory)));
  std::free(memory);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* const memory = Take(bytes, c10::gAlignment);
    return {memory, memory, &GiveBack, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &GiveBack; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

}  // namespace

namespace tomoserve::testing {

bool CountMemory() {
#ifdef TOMOSERVE_SANITIZED
  return false;
#else
  static CountingAllocator allocator;
  c10::SetCPUAllocator(&allocator);
  return true;
#endif
}

std::uint64_t RestartPeak() {
  most.store(in_use.load());
  return PeakBytes();
}

std::uint64_t PeakBytes() { return static_cast<std::uint64_t>(std::max<std::int64_t>(most.load(), 0)); }

}  // namespace tomoserve::testing

#ifndef TOMOSERVE_SANITIZED
void* operator new(std::size_t bytes) { return Take(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Take(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { GiveBack(memory); }
void operator delete(void* memory, std::size_t) noexcept { GiveBack(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { GiveBack(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { GiveBack(memory); }
#endif
