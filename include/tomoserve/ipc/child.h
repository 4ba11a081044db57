// A supervised child program: exec'ed with posix_spawn (never fork from a gRPC process), talking over one
// SEQPACKET socket that it finds as descriptor 3. The spawner reaps.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/record_socket.h"

namespace tomoserve::ipc {

inline constexpr int kChildSocketFd = 3;

struct ExitStatus {
  int exit_code = 0;
  int signal = 0;  // 0: exited by itself
};

// Owner of a running child. The destructor shuts the socket down, waits up to 2 s, then kills and reaps.
// Thread-safe for Kill; otherwise confined to its owner.
class Child {
 public:
  // `arguments[0]` is the program's path. The child inherits stdin=/dev/null, stdout=stderr=our stderr,
  // descriptor 3, and nothing else (POSIX_SPAWN_CLOEXEC_DEFAULT does not exist on Linux: every
  // descriptor of ours is close-on-exec). Its environment holds TZ=UTC, LANG=C.UTF-8, PATH, and the entries
  // of `environment` ("NAME=value").
  static absl::StatusOr<Child> Spawn(const std::vector<std::string>& arguments,
                                     const std::vector<std::string>& environment = {});
  Child() = default;
  Child(Child&&) noexcept;
  Child& operator=(Child&&) noexcept;
  ~Child();

  RecordSocket& socket() { return socket_; }
  pid_t pid() const { return pid_; }
  bool running() const { return pid_ > 0; }
  void Kill(int signal) const;
  // Reaps; kDeadlineExceeded if it lives on after `timeout`.
  absl::StatusOr<ExitStatus> Wait(std::chrono::milliseconds timeout);

 private:
  pid_t pid_ = -1;
  RecordSocket socket_;
};

// Path of a program that is installed beside the running one ("tomoserve-dicom" beside "tomoserve").
std::string SiblingProgram(const char* name);

}  // namespace tomoserve::ipc
