#include "ipc/landlock.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>

#include "ipc/all_threads.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/unique_fd.h"

#if __has_include(<linux/landlock.h>) && defined(SYS_landlock_create_ruleset)
#include <linux/landlock.h>
#define TOMOSERVE_LANDLOCK 1
#endif

namespace tomoserve::ipc {

#ifndef TOMOSERVE_LANDLOCK

absl::Status RestrictFileWrites() { return absl::OkStatus(); }

#else

namespace {

// The ruleset as of ABI 6; an older kernel is given the part that it knows (Debian 12's header ends with the
// first member).
struct Ruleset {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;
  std::uint64_t scoped;
};
constexpr std::uint64_t kTruncate = 1ull << 14;                // ABI 3
constexpr std::uint64_t kBindTcp = 1ull << 0;                  // ABI 4
constexpr std::uint64_t kConnectTcp = 1ull << 1;               // ABI 4
constexpr std::uint64_t kScopeAbstractUnixSocket = 1ull << 0;  // ABI 6
constexpr std::uint64_t kScopeSignal = 1ull << 1;              // ABI 6
constexpr unsigned kRestrictAllThreads = 1u << 3;              // ABI 8, of landlock_restrict_self
// Far more than a thread needs to take a signal, even on a busy machine.
constexpr std::chrono::milliseconds kPatience{500};

absl::Status LandlockError(const char* call, int error) {
  return base::Error(absl::StatusCode::kInternal, "SANDBOX_FAILED", std::to_string(error),
                     std::string(call) + ": " + std::strerror(error));
}

absl::Status AllowWriting(int ruleset, const char* path, std::uint64_t access) {
  const base::UniqueFd parent(::open(path, O_PATH | O_CLOEXEC));
  if (!parent.valid()) return absl::OkStatus();  // not on this machine
  struct stat file {};
  if (::fstat(parent.get(), &file) != 0) return LandlockError("fstat", errno);
  const landlock_path_beneath_attr rule{access, parent.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return LandlockError("landlock_add_rule", errno);
  }
  return absl::OkStatus();
}

absl::Status AllowDevices(int ruleset, std::uint64_t access) {
  for (const char* pattern : {"/dev/null", "/dev/nvidia*", "/dev/dri"}) {
    glob_t found{};
    absl::Status status;
    if (::glob(pattern, 0, nullptr, &found) == 0) {
      for (std::size_t i = 0; i < found.gl_pathc && status.ok(); ++i) {
        status = AllowWriting(ruleset, found.gl_pathv[i], access);
      }
    }
    ::globfree(&found);
    TS_RETURN_IF_ERROR(status);
  }
  return absl::OkStatus();
}

// 0 or errno. Only system calls: other threads run it in a signal handler.
int RestrictThisThread(int ruleset) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  return ::syscall(SYS_landlock_restrict_self, ruleset, 0) == 0 ? 0 : errno;
}

absl::Status RestrictAllThreads(int ruleset, long abi) {
  if (const int error = RestrictThisThread(ruleset); error != 0) {
    return LandlockError("landlock_restrict_self", error);
  }
  if (abi >= 8 && ::syscall(SYS_landlock_restrict_self, ruleset, kRestrictAllThreads) == 0) {
    return absl::OkStatus();
  }
  if (const std::size_t free = RunInOtherThreads(&RestrictThisThread, ruleset, kPatience); free > 0) {
    base::Log(base::LogLevel::kWarning, "landlock_incomplete",
              {{"threads", static_cast<std::int64_t>(free)}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RestrictFileWrites() {
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) return absl::OkStatus();  // not built in, or not enabled at boot

  Ruleset rules{};
  rules.handled_access_fs =
      LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
      LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |
      LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |
      LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
  std::size_t size = sizeof(rules.handled_access_fs);
  if (abi >= 2) rules.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) rules.handled_access_fs |= kTruncate;
  if (abi >= 4) {
    rules.handled_access_net = kBindTcp | kConnectTcp;
    size += sizeof(rules.handled_access_net);
  }
  if (abi >= 6) {
    // Before ABI 7 the scope of signals also parted threads of one process.
    rules.scoped = kScopeAbstractUnixSocket | (abi >= 7 ? kScopeSignal : 0);
    size += sizeof(rules.scoped);
  }
  const base::UniqueFd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rules, size, 0)));
  if (!ruleset.valid()) return LandlockError("landlock_create_ruleset", errno);
  const std::uint64_t writing = LANDLOCK_ACCESS_FS_WRITE_FILE | (abi >= 3 ? kTruncate : 0);
  TS_RETURN_IF_ERROR(AllowDevices(ruleset.get(), writing));
  return RestrictAllThreads(ruleset.get(), abi);
}

#endif

}  // namespace tomoserve::ipc
