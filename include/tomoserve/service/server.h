// The gRPC face: translates between messages and the dispatcher, nothing else. Callback API: no thread is
// held per stream; whatever may block runs on a pool.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tomoserve/dispatch/dispatcher.h"

namespace tomoserve::service {

struct ServerOptions {
  std::string listen = "127.0.0.1:8400";  // HOST:PORT; port 0 picks one
  unsigned pool_threads = 4;
};

// A listening server. Health says SERVING only while the dispatcher is ready and the server is not draining.
class Server {
 public:
  virtual ~Server() = default;
  virtual int port() const = 0;
  // Health follows the dispatcher's readiness; call now and then (thread-safe). Comes back empty when health
  // says SERVING from now on, else with the reason code why not (DRAINING, or the dispatcher's).
  virtual std::string UpdateHealth() = 0;
  // Health NOT_SERVING from now on; calls still work. Before the dispatcher drains.
  virtual void StopServing() = 0;
  // No new calls; open calls end at `deadline` at the latest. Blocks.
  virtual void Shutdown(std::chrono::milliseconds deadline) = 0;
};

// `dispatcher` must outlive the server. Errors: kInvalidArgument NOT_LOOPBACK (there is no TLS yet),
// LISTEN_INVALID; kUnavailable LISTEN_FAILED (port taken).
absl::StatusOr<std::unique_ptr<Server>> StartServer(const ServerOptions& options,
                                                    dispatch::Dispatcher& dispatcher);

}  // namespace tomoserve::service
