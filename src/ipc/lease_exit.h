// How a lease's child ends.
#pragma once

namespace tomoserve::ipc {

// The lease was served to the end of its socket.
inline constexpr int kLeaseServed = 0;
// ServeLease threw.
inline constexpr int kLeaseThrew = 70;
// The child could not be confined.
inline constexpr int kLeaseNotConfined = 71;

}  // namespace tomoserve::ipc
