// What a load test found: pure functions of its samples.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/tomoctl/load_metrics.h"
#include "apps/tomoctl/load_run.h"

namespace tomoserve::tomoctl {

// Studies that were due in the warm-up count nowhere. Latencies run from the intended arrival, seconds.
// `windows`: of each study of the mix, where known. `metrics` may be empty.
nlohmann::ordered_json LoadReport(const LoadOptions& options, const LoadRun& run,
                                  const std::vector<std::optional<std::uint64_t>>& windows,
                                  const std::vector<MetricSample>& metrics);

// The same for people.
std::string LoadTable(const nlohmann::ordered_json& report);

// One line for each submission, warm-up included, after a line of names.
std::string LoadCsv(const LoadOptions& options, const LoadRun& run);

}  // namespace tomoserve::tomoctl
