// Landlock: a process gives up writing files, by path rules that its later threads inherit.
#pragma once

#include "absl/status/status.h"

namespace tomoserve::ipc {

// The calling thread, and threads that it starts later, may no longer write, truncate, create, remove, rename
// or execute files, except for writing to /dev/null and the device nodes of a GPU (/dev/nvidia*, /dev/dri);
// nor (Linux 6.15) signal other processes or reach abstract sockets of others. Reading stays. OK and nothing
// done where the kernel has no Landlock; SANDBOX_FAILED when it has one and refuses.
absl::Status RestrictFileWrites();

}  // namespace tomoserve::ipc
