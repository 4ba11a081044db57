// A supervised child program: exec'ed with posix_spawn (never fork from a gRPC process), talking over one
// SEQPACKET socket that it finds as descriptor 3. The spawner reaps.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::ipc {

inline constexpr int kChildSocketFd = 3;

struct ExitStatus {
  int exit_code = 0;
  int signal = 0;  // 0: exited by itself
};

// Owner of a running child. The destructor shuts the socket down, waits up to 2 s, then kills and reaps.
// Thread-safe for Kill; otherwise confined to its owner. The child leads a process group of its own: when it
// has ended, what it left running in there is killed, and reaped where it fell to us (PID 1).
class Child {
 public:
  // `arguments[0]` is the program's path. The child inherits stdin=/dev/null, stdout=stderr=our stderr,
  // descriptor 3, and nothing else; no blocked or ignored signal. Its environment holds TZ=UTC, LANG=C.UTF-8,
  // PATH, and the entries of `environment` ("NAME=value"). kUnavailable CHILD_NOT_STARTED (value: errno).
  static absl::StatusOr<Child> Spawn(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& environment = {});
  Child() = default;
  Child(Child&&) noexcept;
  Child& operator=(Child&&) noexcept;
  ~Child();

  RecordSocket& socket() { return socket_; }
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }
  // Sends a signal; nothing happens once the child is reaped.
  void Kill(int signal) const;
  // Reaps; kDeadlineExceeded TIMEOUT if it lives on after `timeout`, CHILD_NOT_RUNNING if it was reaped.
  absl::StatusOr<ExitStatus> Wait(std::chrono::milliseconds timeout);

 private:
  void End();

  std::atomic<pid_t> pid_ = -1;
  base::UniqueFd pidfd_;
  RecordSocket socket_;
};

// Path of a program that is installed beside the running one ("tomoserve-dicom" beside "tomoserve").
std::string SiblingProgram(const char* name);

}  // namespace tomoserve::ipc
