// What a child of ours may ask of the kernel: seccomp allow-lists (helpers) and deny-lists (worker),
// rlimits, no_new_privs. Must be called when single-threaded (helpers) or with TSYNC (worker).
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

struct HelperLimits {
  std::uint64_t memory_bytes = 2ull << 30;  // RLIMIT_AS; not set in sanitizer builds
  std::uint32_t cpu_seconds = 60;           // RLIMIT_CPU, counted from the fork
};

// In a freshly forked helper child: rlimits (AS, CPU, NOFILE, CORE 0, FSIZE 0), no_new_privs, then the
// allow-list: reading and mapping what it was given, memory, its socket, exit. Everything else, among it
// socket, open, execve, pwrite, ftruncate, fallocate, kills the process (SIGSYS). In sanitizer builds the
// filter is left out (the sanitizers' run-time needs more); the real one is tested in `release`.
absl::Status EnterHelperSandbox(const HelperLimits& limits);

// In the worker, after device initialisation and before any model: no_new_privs, core 0, and a filter (all
// threads) that kills on socket(AF_INET, AF_INET6, AF_NETLINK, AF_PACKET), connect, bind, execve, execveat,
// ptrace, process_vm_*, mount, bpf, init_module, kexec_load; opening files for writing fails with EACCES
// where Landlock is there.
absl::Status EnterWorkerSandbox();

}  // namespace tomoserve::ipc
