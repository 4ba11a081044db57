#include "tomoserve/ipc/zygote.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>

#include "ipc/lease_exit.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/sandbox.h"

namespace tomoserve::ipc {
namespace {

// The zygote's loop and its running children.
class Zygote {
 public:
  Zygote(RecordSocket control, const ServeLease& serve)
      : control_(std::move(control)), serve_(serve), pid_(::getpid()) {}

  int Run() {
    for (const int signal : {SIGINT, SIGHUP, SIGTERM, SIGPIPE}) ::signal(signal, SIG_IGN);
    sigset_t child_ended;
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &child_ended, nullptr);
    ended_.reset(::signalfd(-1, &child_ended, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!ended_.valid() || !CanConfine()) return 1;
    const int code = Loop();
    for (const auto& [pid, lease_id] : leases_) ::kill(pid, SIGKILL);
    for (const auto& [pid, lease_id] : leases_) {
      while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
      }
    }
    return code;
  }

 private:
  // Whether this kernel lets a child confine itself: found out before any lease, so that no file is blamed.
  static bool CanConfine() {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit(EnterHelperSandbox(HelperLimits()).ok() ? kLeaseServed : kLeaseNotConfined);
    int status = 0;
    while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == kLeaseServed;
  }

  // 0 at the end of the control socket; 1 if it cannot be used any more.
  int Loop() {
    while (true) {
      std::array<pollfd, 2> entries{pollfd{control_.fd(), POLLIN, 0}, pollfd{ended_.get(), POLLIN, 0}};
      if (::poll(entries.data(), entries.size(), -1) < 0) {
        if (errno == EINTR) continue;
        return 1;
      }
      if (entries[1].revents != 0 && !Reap()) return 0;
      if (entries[0].revents == 0) continue;
      v1::ZygoteRequest request;
      std::vector<base::UniqueFd> fds;
      const absl::Status received = control_.ReceiveMessage(request, &fds);
      if (base::ReasonOf(received) == "PEER_GONE") return 0;
      if (!received.ok()) return 1;
      if (!Obey(request, fds)) return 0;
    }
  }

  // False when nobody listens any more.
  bool Obey(const v1::ZygoteRequest& request, std::vector<base::UniqueFd>& fds) {
    if (request.has_end()) {
      for (const auto& [pid, lease_id] : leases_) {
        if (lease_id == request.end().lease_id()) ::kill(pid, SIGKILL);
      }
      return true;
    }
    if (!request.has_lease()) return true;
    const pid_t pid = fds.size() == 1 ? ::fork() : -1;
    if (pid == 0) Serve(request.lease(), RecordSocket(std::move(fds[0])));
    if (pid < 0) {
      v1::LeaseEnded ended;
      ended.set_lease_id(request.lease().lease_id());
      ended.set_not_started(true);
      return control_.Send(ended).ok();
    }
    leases_.emplace(pid, request.lease().lease_id());
    return true;
  }

  // In the child.
  [[noreturn]] void Serve(const v1::LeaseRequest& request, RecordSocket lease) {
    control_.Close();
    ended_.reset();
    // This signal comes when the parent's *thread* ends: the zygote has but one. It takes along children
    // that hang in a decoder and would not notice that their socket is closed.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (::getppid() != pid_) ::_exit(kLeaseNotConfined);
    for (const int signal : {SIGINT, SIGHUP, SIGTERM}) ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    HelperLimits limits;
    if (request.memory_bytes() != 0) limits.memory_bytes = request.memory_bytes();
    if (request.cpu_seconds() != 0) limits.cpu_seconds = request.cpu_seconds();
    if (!EnterHelperSandbox(limits).ok()) ::_exit(kLeaseNotConfined);
    try {
      serve_(request, lease);
    } catch (...) {
      ::_exit(kLeaseThrew);
    }
    ::_exit(kLeaseServed);
  }

  // Collects ended children; false when nobody listens any more.
  bool Reap() {
    std::array<signalfd_siginfo, 16> notices;
    while (::read(ended_.get(), notices.data(), sizeof(notices)) > 0) {
    }
    for (auto entry = leases_.begin(); entry != leases_.end();) {
      int status = 0;
      if (::waitpid(entry->first, &status, WNOHANG) != entry->first) {
        ++entry;
        continue;
      }
      const std::uint64_t lease_id = entry->second;
      entry = leases_.erase(entry);
      v1::LeaseEnded ended;
      ended.set_lease_id(lease_id);
      if (WIFEXITED(status)) ended.set_exit_code(WEXITSTATUS(status));
      if (WIFSIGNALED(status)) ended.set_signal(WTERMSIG(status));
      if (!control_.Send(ended).ok()) return false;
    }
    return true;
  }

  RecordSocket control_;
  const ServeLease& serve_;
  const pid_t pid_;
  base::UniqueFd ended_;
  std::map<pid_t, std::uint64_t> leases_;
};

}  // namespace

int RunZygote(RecordSocket control, const ServeLease& serve) {
  return Zygote(std::move(control), serve).Run();
}

}  // namespace tomoserve::ipc
