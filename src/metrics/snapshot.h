// What is asked at each scrape rather than counted: the dispatcher's activity and this process.
#pragma once

#include <prometheus/metric_family.h>

#include <optional>
#include <string>
#include <vector>

#include "tomoserve/dispatch/observer.h"

namespace tomoserve::metrics {

// Families of the dispatcher. Without `activity` (it did not answer) those that need one have no samples.
std::vector<prometheus::MetricFamily> ActivityFamilies(const std::optional<dispatch::Activity>& activity,
                                                       bool ready);

// Families of this process, under the names that Prometheus' client libraries share.
std::vector<prometheus::MetricFamily> ProcessFamilies();

// Version and commit.
prometheus::MetricFamily BuildFamily(const std::string& build);

}  // namespace tomoserve::metrics
