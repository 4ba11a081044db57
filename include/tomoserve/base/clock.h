// Time of the server's own events.
#pragma once

#include <cstdint>

namespace tomoserve::base {

// Microseconds since the Unix epoch (system clock): for rows and messages.
std::int64_t NowUs();

// Milliseconds since an arbitrary start, never going back: for durations.
double MonotonicMs();

}  // namespace tomoserve::base
