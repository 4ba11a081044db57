// What a monitoring system wants to know, in Prometheus' text format. docs/METRICS.md lists it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/dispatch/observer.h"

namespace tomoserve::metrics {

// Counts what the dispatcher tells and, when asked, adds what goes on now. Labels take a bounded number of
// values, none of which names a study or a patient. Thread-safe; outlives the dispatcher that it observes.
class Metrics {
 public:
  virtual ~Metrics() = default;
  virtual dispatch::Observer& observer() = 0;
  // The exposition (text format 0.0.4, UTF-8). Waits at most a second for a dispatcher that does not answer,
  // and then leaves out what only it knows.
  virtual std::string Text(dispatch::Dispatcher& dispatcher) = 0;
};

// `build`: version and commit.
std::unique_ptr<Metrics> CreateMetrics(std::string_view build);

}  // namespace tomoserve::metrics
