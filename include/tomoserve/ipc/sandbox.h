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

// In a freshly forked helper child: rlimits (AS, CPU, NOFILE, CORE 0, FSIZE 0), not dumpable, no_new_privs,
// then the allow-list: reading and mapping what it was given, memory, its socket, messages to stderr, exit.
// Everything else, among it socket, open, execve, fork, lseek, pwrite, ftruncate, fallocate, kills the
// process (SIGSYS). What needs a file (dictionaries, converters, the time zone) is loaded before. In
// sanitizer builds the filter and the limits of memory and file size are left out (the sanitizers' run-time
// needs more); the real ones are tested in `release`. SANDBOX_FAILED (value: errno): the caller must not go
// on.
absl::Status EnterHelperSandbox(const HelperLimits& limits);

// What a worker computes on.
enum class WorkerDevice { kCpu, kGpu };

// In the worker, after device initialisation and before any model: no_new_privs, core 0, and a filter that
// kills on socket(), socketpair(), connect, bind, execve, execveat, ptrace, process_vm_*, mount, bpf,
// init_module, kexec_load and their like; io_uring is not there (ENOSYS). Where the kernel has Landlock,
// opening files for writing, creating and removing them fails with EACCES (/dev/null and GPU devices
// excepted). Both bind all threads, those that run already (a GPU's driver has some) and those that start
// later; a thread that Landlock could not be put on is logged (`landlock_incomplete`). With a GPU sockets of
// the UNIX family that make connections (SOCK_STREAM, SOCK_SEQPACKET) can be made, other types fail with
// EACCES as do connect, bind, listen and accept: NVIDIA's libraries look for their services on UNIX sockets
// when they are short of memory or load something late, and live without. SANDBOX_FAILED (value: errno): the
// caller must not go on.
absl::Status EnterWorkerSandbox(WorkerDevice device);

}  // namespace tomoserve::ipc
