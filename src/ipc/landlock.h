// Landlock: a process gives up writing files, by path rules for all its threads.
#pragma once

#include "absl/status/status.h"

namespace tomoserve::ipc {

// No thread of this process, whether it runs already or starts later, may any longer write, truncate, create,
// remove, rename or execute files, except for writing to /dev/null and the device nodes of a GPU
// (/dev/nvidia*, /dev/dri); nor (Linux 6.15) signal other processes or reach abstract sockets of others.
// Reading stays. All threads run with no_new_privs afterwards. Threads that run already are told by a signal
// (all_threads.h) where the kernel cannot bind them itself (Linux 7.0); how many could not be is logged as
// `landlock_incomplete`. OK and nothing done where the kernel has no Landlock; SANDBOX_FAILED when it has one
// and refuses.
absl::Status RestrictFileWrites();

}  // namespace tomoserve::ipc
