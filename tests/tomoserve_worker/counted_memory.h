// What the process takes, counted: tensors and everything else from the heap.
#pragma once

#include <cstdint>

namespace tomoserve::testing {

// Counts from here on; the program has to be linked with counted_memory.cpp. False in builds with a
// sanitizer, whose heap is its own.
bool CountMemory();
// The most in use since RestartPeak, which returns what is in use then.
std::uint64_t RestartPeak();
std::uint64_t PeakBytes();

}  // namespace tomoserve::testing
