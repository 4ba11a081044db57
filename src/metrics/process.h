// Facts that the kernel keeps about a process.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace tomoserve::metrics {

// Resident memory of a process of this user; 0 where there is none.
std::uint64_t ResidentBytes(pid_t pid);

}  // namespace tomoserve::metrics
