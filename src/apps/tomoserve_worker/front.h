// The worker's end of the socket to the front.
#pragma once

#include <chrono>
#include <mutex>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/v1/worker.pb.h"

namespace tomoserve::worker {

// Replies may be sent from any thread; requests are received by one.
class Front {
 public:
  explicit Front(ipc::RecordSocket socket);

  // A reply that cannot be sent because the front is gone or does not read ends Receive. Only a reply that is
  // too large is the caller's: RECORD_TOO_LARGE.
  absl::Status Send(const ipc::v1::WorkerReply& reply);
  void SendRunFailed(std::string_view run_id, const absl::Status& status);

  // The next request with its descriptors; PEER_GONE at the end. Errors end the worker.
  absl::Status Receive(ipc::v1::WorkerRequest& request, std::vector<base::UniqueFd>& fds);

  // Makes Receive end. Thread-safe.
  void Shutdown();

 private:
  ipc::RecordSocket socket_;
  std::mutex sending_;
};

// Code, value and text, printable and bounded.
ipc::v1::Refusal RefusalOf(const absl::Status& status);

}  // namespace tomoserve::worker
