#include "tomoserve/ipc/sandbox.h"

#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>

#include "ipc/landlock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

constexpr rlim_t kHelperDescriptors = 128;
// What the kernel reads of a socket's type beside the flags (SOCK_TYPE_MASK, include/linux/net.h).
constexpr int kSocketTypeMask = 0xf;

absl::Status SandboxError(const char* call, int error) {
  return base::Error(absl::StatusCode::kInternal, "SANDBOX_FAILED", std::to_string(error),
                     std::string(call) + ": " + std::strerror(error));
}

absl::Status Limit(__rlimit_resource_t resource, rlim_t soft, rlim_t hard) {
  const rlimit limit{soft, hard};
  if (::setrlimit(resource, &limit) != 0) return SandboxError("setrlimit", errno);
  return absl::OkStatus();
}

// A seccomp filter in the making. The first error sticks and is returned by Load.
class Filter {
 public:
  explicit Filter(std::uint32_t otherwise) : context_(seccomp_init(otherwise), &seccomp_release) {
    if (context_ == nullptr) error_ = -ENOMEM;
    // Calls of the 32-bit and x32 tables would pass by rules made for the native one.
    Set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  }
  void Set(scmp_filter_attr attribute, std::uint32_t value) {
    if (error_ == 0) error_ = seccomp_attr_set(context_.get(), attribute, value);
  }
  void Add(std::uint32_t action, int call) {
    if (error_ == 0) error_ = seccomp_rule_add_array(context_.get(), action, call, 0, nullptr);
  }
  // All conditions together.
  void Add(std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> conditions) {
    if (error_ == 0) {
      error_ = seccomp_rule_add_array(context_.get(), action, call, static_cast<unsigned>(conditions.size()),
                                      conditions.begin());
    }
  }
  absl::Status Load() {
    if (error_ == 0) error_ = seccomp_load(context_.get());
    if (error_ != 0) return SandboxError("seccomp", -error_);
    return absl::OkStatus();
  }

 private:
  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int error_ = 0;
};

absl::Status ForbidNewPrivileges() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return SandboxError("prctl", errno);
  return absl::OkStatus();
}

// Conditions on `int` arguments compare all 64 bits of the register while the kernel looks at 32: rules that
// allow ask for equality and rules that kill for inequality, so that rubbish above bit 31 never helps.
#ifndef TOMOSERVE_SANITIZED
absl::Status LoadHelperFilter() {
  Filter filter(SCMP_ACT_KILL_PROCESS);
  for (const int call : {
           SCMP_SYS(read),
           SCMP_SYS(pread64),
           SCMP_SYS(recvmsg),
           SCMP_SYS(sendmsg),
           SCMP_SYS(close),
           SCMP_SYS(fstat),
           SCMP_SYS(poll),
           SCMP_SYS(ppoll),  // what it was given
           SCMP_SYS(brk),
           SCMP_SYS(munmap),
           SCMP_SYS(mremap),
           SCMP_SYS(madvise),  // memory
           SCMP_SYS(clock_gettime),
           SCMP_SYS(clock_getres),
           SCMP_SYS(gettimeofday),
           SCMP_SYS(time),
           SCMP_SYS(getrandom),
           SCMP_SYS(sysinfo),
           SCMP_SYS(sched_getaffinity),  // qsort asks for the memory, codecs for the cores
           SCMP_SYS(futex),
           SCMP_SYS(sched_yield),
           SCMP_SYS(restart_syscall),
           SCMP_SYS(rt_sigreturn),
           SCMP_SYS(rt_sigaction),
           SCMP_SYS(rt_sigprocmask),
           SCMP_SYS(sigaltstack),
           SCMP_SYS(getpid),
           SCMP_SYS(gettid),
           SCMP_SYS(exit),
           SCMP_SYS(exit_group),
       }) {
    filter.Add(SCMP_ACT_ALLOW, call);
  }
#ifdef __NR_newfstatat
  // glibc's fstat is newfstatat(fd, "", AT_EMPTY_PATH). A filter cannot look at the path: what is left open
  // is to learn a file's size and times, never a byte of it.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), {SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH)});
#endif
  // No memory that is written can ever be executed.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(mmap), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(mprotect), {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)});
  // Messages of the C library when it aborts.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(write), {SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO)});
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(writev), {SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO)});
  // Mapping::Map looks whether a file can shrink.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl), {SCMP_A1(SCMP_CMP_EQ, F_GET_SEALS)});
  // abort() signals itself, and nobody else.
  filter.Add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), {SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(::getpid()))});
  // stdio asks whether a stream is a terminal: no.
  filter.Add(SCMP_ACT_ERRNO(ENOTTY), SCMP_SYS(ioctl));
  return filter.Load();
}
#endif

// Sockets of a worker: on a CPU none at all. On a GPU NVIDIA's libraries make UNIX sockets of connections
// when they look for their services (MPS, the persistence daemon) and live without an answer: they get the
// socket and can neither connect nor bind it. A datagram socket needs neither: sendto reaches whoever listens
// on a path, so there is none, and no pair of them. SOCK_RAW is a datagram socket by another name
// (net/unix/af_unix.c), hence the rule for every type but two.
void ForbidSockets(Filter& filter, WorkerDevice device) {
  for (const int call : {SCMP_SYS(socket), SCMP_SYS(socketpair)}) {
    if (device == WorkerDevice::kCpu) {
      filter.Add(SCMP_ACT_KILL_PROCESS, call);
      continue;
    }
    // AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK and whatever comes: all but AF_UNIX.
    filter.Add(SCMP_ACT_KILL_PROCESS, call, {SCMP_A0(SCMP_CMP_NE, AF_UNIX)});
    for (int type = 0; type <= kSocketTypeMask; ++type) {
      if (type == SOCK_STREAM || type == SOCK_SEQPACKET) continue;
      filter.Add(SCMP_ACT_ERRNO(EACCES), call,
                 {SCMP_A0(SCMP_CMP_EQ, AF_UNIX),
                  SCMP_A1(SCMP_CMP_MASKED_EQ, kSocketTypeMask, static_cast<scmp_datum_t>(type))});
    }
  }
  const std::uint32_t on_peers =
      device == WorkerDevice::kGpu ? SCMP_ACT_ERRNO(EACCES) : std::uint32_t{SCMP_ACT_KILL_PROCESS};
  for (const int call :
       {SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4)}) {
    filter.Add(on_peers, call);
  }
}

absl::Status LoadWorkerFilter(WorkerDevice device) {
  Filter filter(SCMP_ACT_ALLOW);
  filter.Set(SCMP_FLTATR_CTL_TSYNC, 1);
  // What CUDA needs besides is allowed to all: ioctl and mmap on its device files, threads, eventfds,
  // libraries that it loads late.
  ForbidSockets(filter, device);
  for (const int call : {
           SCMP_SYS(execve),
           SCMP_SYS(execveat),
           SCMP_SYS(ptrace),
           SCMP_SYS(process_vm_readv),
           SCMP_SYS(process_vm_writev),
           SCMP_SYS(process_madvise),
           SCMP_SYS(pidfd_getfd),
           SCMP_SYS(kcmp),
           SCMP_SYS(mount),
           SCMP_SYS(umount2),
           SCMP_SYS(move_mount),
           SCMP_SYS(open_tree),
           SCMP_SYS(fsopen),
           SCMP_SYS(fsmount),
           SCMP_SYS(fspick),
           SCMP_SYS(mount_setattr),
           SCMP_SYS(pivot_root),
           SCMP_SYS(chroot),
           SCMP_SYS(unshare),
           SCMP_SYS(setns),
           SCMP_SYS(bpf),
           SCMP_SYS(userfaultfd),
           SCMP_SYS(init_module),
           SCMP_SYS(finit_module),
           SCMP_SYS(delete_module),
           SCMP_SYS(kexec_load),
           SCMP_SYS(kexec_file_load),
           SCMP_SYS(open_by_handle_at),
           SCMP_SYS(add_key),
           SCMP_SYS(request_key),
           SCMP_SYS(keyctl),
           SCMP_SYS(reboot),
           SCMP_SYS(swapon),
           SCMP_SYS(swapoff),
           SCMP_SYS(acct),
           SCMP_SYS(quotactl),
       }) {
    filter.Add(SCMP_ACT_KILL_PROCESS, call);
  }
  // io_uring would do all of this past the filter; libraries that try it live without.
  for (const int call : {SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register)}) {
    filter.Add(SCMP_ACT_ERRNO(ENOSYS), call);
  }
  filter.Add(SCMP_ACT_ERRNO(EPERM), SCMP_SYS(perf_event_open));
  return filter.Load();
}

}  // namespace

absl::Status EnterHelperSandbox(const HelperLimits& limits) {
  TS_RETURN_IF_ERROR(Limit(RLIMIT_CORE, 0, 0));
  // Keeps core handlers that ignore RLIMIT_CORE, and ptrace, away from a patient's data.
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return SandboxError("prctl", errno);
  TS_RETURN_IF_ERROR(Limit(RLIMIT_NOFILE, kHelperDescriptors, kHelperDescriptors));
  // At the soft limit comes SIGXCPU, one second later SIGKILL.
  TS_RETURN_IF_ERROR(Limit(RLIMIT_CPU, limits.cpu_seconds, rlim_t{limits.cpu_seconds} + 1));
#ifndef TOMOSERVE_SANITIZED
  // Where stderr is a file a message is lost instead of killing the process.
  if (::signal(SIGXFSZ, SIG_IGN) == SIG_ERR) return SandboxError("signal", errno);
  TS_RETURN_IF_ERROR(Limit(RLIMIT_FSIZE, 0, 0));
  TS_RETURN_IF_ERROR(Limit(RLIMIT_AS, limits.memory_bytes, limits.memory_bytes));
#endif
  TS_RETURN_IF_ERROR(ForbidNewPrivileges());
#ifndef TOMOSERVE_SANITIZED
  TS_RETURN_IF_ERROR(LoadHelperFilter());
#endif
  return absl::OkStatus();
}

absl::Status EnterWorkerSandbox(WorkerDevice device) {
  TS_RETURN_IF_ERROR(Limit(RLIMIT_CORE, 0, 0));
  TS_RETURN_IF_ERROR(ForbidNewPrivileges());
  TS_RETURN_IF_ERROR(RestrictFileWrites());
  return LoadWorkerFilter(device);
}

}  // namespace tomoserve::ipc
