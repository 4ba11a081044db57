// A family of samples that are known at once.
#pragma once

#include <prometheus/metric_family.h>

#include <string>
#include <utility>
#include <vector>

namespace tomoserve::metrics {

using SampleLabels = std::vector<prometheus::ClientMetric::Label>;

inline prometheus::MetricFamily GaugeFamily(std::string name, std::string help) {
  return {
      .name = std::move(name), .help = std::move(help), .type = prometheus::MetricType::Gauge, .metric = {}};
}

inline prometheus::MetricFamily CounterFamily(std::string name, std::string help) {
  return {.name = std::move(name),
          .help = std::move(help),
          .type = prometheus::MetricType::Counter,
          .metric = {}};
}

// Adds a sample of the family's type.
template <typename Number>
void AddSample(prometheus::MetricFamily& family, Number value, SampleLabels labels = {}) {
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  metric.gauge.value = metric.counter.value = static_cast<double>(value);
}

}  // namespace tomoserve::metrics
