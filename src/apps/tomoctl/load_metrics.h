// What the server says of itself while a load test runs: its /metrics, read now and then.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::tomoctl {

// One line of the text format 0.0.4.
struct MetricLine {
  std::string name;
  std::string labels;  // what stands between the braces
  double value = 0;
};

// Lines that are none, comments for example, are left out.
std::vector<MetricLine> ParseMetrics(std::string_view text);

// Sum over all label values; nothing where the name does not occur.
std::optional<double> SumOf(const std::vector<MetricLine>& lines, std::string_view name);

struct MetricSample {
  double at_s = 0;  // after the start
  double busy = 0;  // share of the devices that have a run
  double waiting = 0;
  std::map<std::string, double> waiting_by_priority;
  double in_flight = 0;
  std::optional<double> windows;  // computed so far
  // So far, where the server counts them: windows in batches, and places for them.
  std::optional<double> batch_windows;
  std::optional<double> batch_slots;
  std::optional<double> lane_seconds;  // that lanes computed, so far
};

MetricSample ToSample(const std::vector<MetricLine>& lines, double at_s);

// http://ADDRESS:PORT/PATH with an IPv4 address or localhost. Errors: kInvalidArgument METRICS_URL,
// kUnavailable METRICS_UNREACHABLE.
absl::StatusOr<std::string> FetchMetrics(const std::string& url);

// Reads once each half second until it ends. A reading that fails is left out.
class MetricsWatch {
 public:
  MetricsWatch(std::string url, std::chrono::steady_clock::time_point start);
  MetricsWatch(const MetricsWatch&) = delete;
  MetricsWatch& operator=(const MetricsWatch&) = delete;
  ~MetricsWatch();
  // Ends it.
  std::vector<MetricSample> Stop();

 private:
  void Watch();

  const std::string url_;
  const std::chrono::steady_clock::time_point start_;
  std::vector<MetricSample> samples_;
  std::mutex mutex_;
  bool stop_ = false;  // by mutex_
  std::condition_variable wake_;
  std::thread thread_;
};

}  // namespace tomoserve::tomoctl
