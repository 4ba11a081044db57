// The HTTP face for monitoring and probes: GET /metrics, /healthz, /readyz; nothing else is served.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tomoserve/base/loopback.h"

namespace tomoserve::metrics {

// What stands behind the pages; called by several threads at a time.
struct Pages {
  std::function<std::string()> metrics;  // the exposition
  // Empty: 200; else a reason code: 503 with it.
  std::function<std::string()> not_alive;  // /healthz
  std::function<std::string()> not_ready;  // /readyz
};

// A listening server; ends its threads when it is destroyed. Slow or silent clients are dropped after two
// seconds.
class Exposer {
 public:
  virtual ~Exposer() = default;
  virtual int port() const = 0;
};

// Reads the setting metrics_listen, HOST:PORT of loopback; opens nothing, so that a server can refuse it
// before it starts anything. Errors: kInvalidArgument NOT_LOOPBACK, LISTEN_INVALID, the latter also for [::1]
// where the HTTP library was built without IPv6, as Debian's is.
absl::StatusOr<base::LoopbackAddress> ParseMetricsListen(const std::string& listen);

// `listen` as for ParseMetricsListen; port 0 picks one. Errors: those, and kUnavailable LISTEN_FAILED (port
// taken).
absl::StatusOr<std::unique_ptr<Exposer>> StartExposer(const std::string& listen, Pages pages);

}  // namespace tomoserve::metrics
