// The front's end of a helper program's zygote: keeps one running and hands out leases.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// How a lease ended.
struct LeaseEnd {
  bool zygote_died = false;  // how the child ended is not known
  bool not_started = false;  // the zygote could not fork
  bool killed_by_us = false;
  int exit_code = 0;
  int signal = 0;
};

// One running zygote. Thread-safe. Reaped when it ends, by its reader thread.
class ZygoteProcess {
 public:
  static absl::StatusOr<std::shared_ptr<ZygoteProcess>> Start(const std::string& program);
  ~ZygoteProcess();

  pid_t pid() const { return pid_; }
  bool dead() const;
  // Asks for a lease under `request.lease_id`; `socket` is the child's end.
  absl::Status StartLease(const v1::LeaseRequest& request, int socket);
  // Has the lease's child killed.
  void EndLease(std::uint64_t lease_id);
  // Waits for the lease's end, and then forgets it; nothing after `timeout`.
  std::optional<LeaseEnd> AwaitLease(std::uint64_t lease_id, std::chrono::milliseconds timeout);
  void Kill();
  // Kills, and waits (up to 10 s) until it counts as dead.
  void KillAndAwait();

 private:
  explicit ZygoteProcess(Child child) : child_(std::move(child)), pid_(child_.pid()) {}
  void ReadEnds();

  Child child_;
  const pid_t pid_;
  std::mutex sending_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, std::optional<LeaseEnd>> leases_;
  bool dead_ = false;
  std::jthread reader_;
};

// A lease that a child serves at the other end of `socket`.
struct Lease {
  std::uint64_t id = 0;
  RecordSocket socket;
  std::shared_ptr<ZygoteProcess> zygote;
};

// Thread-safe. Starts a dead zygote again when a lease is asked for, ever more slowly (up to 5 s apart) if it
// does not live for long.
class ZygoteClient {
 public:
  static absl::StatusOr<std::unique_ptr<ZygoteClient>> Start(std::string program);

  // `request` without its lease_id. kUnavailable if there is no zygote to be had.
  absl::StatusOr<Lease> Open(v1::LeaseRequest request);
  // Closes the socket and waits until the child is gone: by itself, or killed at once if `kill`, or when it
  // takes longer than 2 s. A zygote that does not react is killed too.
  LeaseEnd Finish(Lease lease, bool kill);

  pid_t pid() const { return pid_; }
  std::uint64_t leases_started() const { return leases_started_; }

 private:
  using Clock = std::chrono::steady_clock;

  explicit ZygoteClient(std::string program) : program_(std::move(program)) {}
  absl::StatusOr<std::shared_ptr<ZygoteProcess>> Running();

  const std::string program_;
  std::mutex mutex_;
  std::condition_variable waiting_;
  std::shared_ptr<ZygoteProcess> zygote_;
  Clock::time_point started_at_{};
  Clock::duration pause_{};
  std::atomic<pid_t> pid_ = -1;
  std::atomic<std::uint64_t> next_lease_id_ = 1;
  std::atomic<std::uint64_t> leases_started_ = 0;
};

}  // namespace tomoserve::ipc
