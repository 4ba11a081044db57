#include "tomoserve/ipc/child.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kOrderlyEnd{2000};

absl::Status SpawnError(const char* call, int error) {
  return base::Error(absl::StatusCode::kUnavailable, "CHILD_NOT_STARTED", std::to_string(error),
                     std::string(call) + ": " + std::strerror(error));
}

// posix_spawn's two parameter objects.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  // The child finds `socket` as kChildSocketFd and has its own process group, so that what it leaves behind
  // can be found, and default signals.
  int Prepare(int socket) {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    for (const int error :
         {posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0),
          posix_spawn_file_actions_adddup2(&actions_, STDERR_FILENO, STDOUT_FILENO),
          posix_spawn_file_actions_adddup2(&actions_, socket, kChildSocketFd),
          posix_spawn_file_actions_addclosefrom_np(&actions_, kChildSocketFd + 1),
          posix_spawnattr_setsigmask(&attributes_, &none), posix_spawnattr_setsigdefault(&attributes_, &all),
          posix_spawnattr_setpgroup(&attributes_, 0),
          posix_spawnattr_setflags(&attributes_,
                                   POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP)}) {
      if (error != 0) return error;
    }
    return 0;
  }
  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

std::vector<std::string> ChildEnvironment(const std::vector<std::string>& extra) {
  std::vector<std::string> environment = {"TZ=UTC", "LANG=C.UTF-8"};
  std::vector<const char*> passed = {"PATH"};
#ifdef TOMOSERVE_SANITIZED
  passed.insert(passed.end(), {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"});
#endif
  for (const char* name : passed) {
    if (const char* value = std::getenv(name)) environment.push_back(std::string(name) + "=" + value);
  }
  environment.insert(environment.end(), extra.begin(), extra.end());
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// Waits without reaping: 1 has ended, 0 still runs at `deadline`, -1 no such child.
int AwaitEnd(pid_t pid, int pidfd, Clock::time_point deadline) {
  while (true) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    if (info.si_pid == pid) return 1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return 0;
    if (pidfd >= 0) {
      pollfd entry{pidfd, POLLIN, 0};
      ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
    } else {
      std::this_thread::sleep_for(std::min(left, std::chrono::milliseconds(5)));
    }
  }
}

}  // namespace

absl::StatusOr<Child> Child::Spawn(const std::vector<std::string>& arguments,
                                   const std::vector<std::string>& environment) {
  if (arguments.empty()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "CHILD_NOT_STARTED", "", "no program is named");
  }
  TS_ASSIGN_OR_RETURN(auto ends, RecordSocket::Pair());
  SpawnPlan plan;
  if (const int error = plan.Prepare(ends.second.fd()); error != 0) return SpawnError("posix_spawn", error);
  std::vector<std::string> argument_texts = arguments;
  std::vector<std::string> environment_texts = ChildEnvironment(environment);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, arguments[0].c_str(), plan.actions(), plan.attributes(),
                                  Pointers(argument_texts).data(), Pointers(environment_texts).data());
  if (error != 0) return SpawnError("posix_spawn", error);
  Child child;
  child.pid_ = pid;
  // Without pidfds (Linux before 5.3) waiting polls and Kill goes by number.
  child.pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  child.socket_ = std::move(ends.first);
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(other.pid_.exchange(-1)), pidfd_(std::move(other.pidfd_)), socket_(std::move(other.socket_)) {}

Child& Child::operator=(Child&& other) noexcept {
  if (this != &other) {
    End();
    pid_ = other.pid_.exchange(-1);
    pidfd_ = std::move(other.pidfd_);
    socket_ = std::move(other.socket_);
  }
  return *this;
}

Child::~Child() { End(); }

void Child::End() {
  if (!running()) return;
  socket_.Shutdown();
  if (!Wait(kOrderlyEnd).ok()) {
    Kill(SIGKILL);
    // A killed process ends unless it hangs in the kernel (a dead device): then it is left behind.
    (void)Wait(kOrderlyEnd);
  }
}

void Child::Kill(int signal) const {
  if (pidfd_.valid()) {
    ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
  } else if (const pid_t pid = pid_; pid > 0) {
    ::kill(pid, signal);
  }
}

absl::StatusOr<ExitStatus> Child::Wait(std::chrono::milliseconds timeout) {
  const pid_t pid = pid_;
  if (pid <= 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "CHILD_NOT_RUNNING", "",
                       "the child was reaped");
  }
  const int ended = AwaitEnd(pid, pidfd_.get(), Clock::now() + timeout);
  if (ended == 0) {
    return base::Error(absl::StatusCode::kDeadlineExceeded, "TIMEOUT", std::to_string(timeout.count()),
                       "the child still runs");
  }
  if (ended < 0) {
    pid_ = -1;
    return base::Error(absl::StatusCode::kInternal, "CHILD_NOT_RUNNING", std::to_string(errno),
                       "the child was reaped by somebody else");
  }
  // While the dead child is not reaped its number, and so its group's, cannot be given to anybody else.
  ::kill(-pid, SIGKILL);
  int status = 0;
  pid_t reaped = -1;
  do {
    reaped = ::waitpid(pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  pid_ = -1;
  // As PID 1 of a container the orphans of the child are ours; they were just killed.
  while (::waitpid(-pid, nullptr, 0) > 0 || errno == EINTR) {
  }
  ExitStatus result;
  if (WIFSIGNALED(status)) {
    result.signal = WTERMSIG(status);
  } else {
    result.exit_code = WEXITSTATUS(status);
  }
  return result;
}

std::string SiblingProgram(const char* name) {
  std::array<char, PATH_MAX> path{};
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  if (size <= 0 || static_cast<std::size_t>(size) == path.size()) return name;
  const std::string program(path.data(), static_cast<std::size_t>(size));
  return program.substr(0, program.rfind('/') + 1) + name;
}

}  // namespace tomoserve::ipc
