#include "apps/tomoctl/load_report.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tomoserve::tomoctl {
namespace {

using Json = nlohmann::ordered_json;

Json Quantiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  Json made;
  const auto add = [&](const char* name, double share) {
    const std::optional<double> value = Quantile(values, share);
    made[name] = value ? Json(*value) : Json();
  };
  add("p50", 0.5);
  add("p95", 0.95);
  add("p99", 0.99);
  add("max", 1);
  return made;
}

// Offered, completed and latencies of the samples that `wanted` is true for.
template <typename Wanted>
Json Row(const std::vector<LoadSample>& samples, const Wanted& wanted) {
  std::vector<double> latency;
  std::vector<double> acknowledged;
  std::size_t offered = 0;
  for (const LoadSample& sample : samples) {
    if (!wanted(sample)) continue;
    ++offered;
    if (sample.final_s) latency.push_back(*sample.final_s - sample.intended_s);
    if (sample.acknowledged_s) acknowledged.push_back(*sample.acknowledged_s - sample.intended_s);
  }
  Json row;
  row["offered"] = offered;
  row["completed"] = latency.size();
  row["latency_s"] = Quantiles(std::move(latency));
  row["acknowledged_s"] = Quantiles(std::move(acknowledged));
  return row;
}

// What became final in the measured time, whenever it was due.
Json Throughput(const LoadOptions& options, const std::vector<LoadSample>& samples,
                const std::vector<std::optional<std::uint64_t>>& windows) {
  const double end_s = options.warm_up_s + options.duration_s;
  std::size_t studies = 0;
  double forward_s = 0;
  std::optional<std::uint64_t> all = 0;
  for (const LoadSample& sample : samples) {
    if (!sample.final_s || *sample.final_s < options.warm_up_s || *sample.final_s >= end_s) continue;
    ++studies;
    forward_s += sample.forward_s;
    const std::optional<std::uint64_t>& of_study = windows[sample.study];
    all = all && of_study ? std::optional(*all + *of_study) : std::nullopt;
  }
  Json made;
  made["completed"] = studies;
  made["studies_per_hour"] = 3600 * static_cast<double>(studies) / options.duration_s;
  made["windows_per_s"] = all ? Json(static_cast<double>(*all) / options.duration_s) : Json();
  // Above 1 where windows of several runs are computed in turns.
  made["forward_share"] = forward_s / options.duration_s;
  return made;
}

Json Server(const LoadOptions& options, const std::vector<MetricSample>& all) {
  std::vector<MetricSample> samples;
  std::copy_if(all.begin(), all.end(), std::back_inserter(samples), [&](const MetricSample& sample) {
    return sample.at_s >= options.warm_up_s && sample.at_s <= options.warm_up_s + options.duration_s;
  });
  if (samples.empty()) return {};
  const MetricSample& first = samples.front();
  const MetricSample& last = samples.back();
  const auto count = static_cast<double>(samples.size());
  double busy = 0;
  double waiting = 0;
  double most = 0;
  Json series = Json::array();
  for (const MetricSample& sample : samples) {
    busy += sample.busy / count;
    waiting += sample.waiting / count;
    most = std::max(most, sample.waiting);
    series.push_back({{"at_s", sample.at_s},
                      {"busy", sample.busy},
                      {"waiting", sample.waiting_by_priority},
                      {"in_flight", sample.in_flight}});
  }
  Json made;
  made["busy_share"] = busy;
  made["waiting_mean"] = waiting;
  made["waiting_max"] = most;
  const double seconds = last.at_s - first.at_s;
  if (last.windows && seconds > 0)
    made["windows_per_s"] = (*last.windows - first.windows.value_or(0)) / seconds;
  if (last.lane_seconds && seconds > 0)
    made["lanes_busy"] = (*last.lane_seconds - first.lane_seconds.value_or(0)) / seconds;
  if (last.batch_windows && last.batch_slots) {
    const double slots = *last.batch_slots - first.batch_slots.value_or(0);
    if (slots > 0) made["batch_fill"] = (*last.batch_windows - first.batch_windows.value_or(0)) / slots;
  }
  made["samples"] = std::move(series);
  return made;
}

Json Shares(const std::vector<Share>& shares) {
  Json made;
  for (const Share& share : shares) made[share.name] = share.share;
  return made;
}

std::string Row(const std::string& name, const Json& row) {
  const auto seconds = [&](const char* what, const char* quantile) {
    const Json& value = row.at(what).at(quantile);
    return value.is_null() ? std::string("-") : absl::StrFormat("%.2f", value.get<double>());
  };
  std::string line = absl::StrFormat("%-8s %8d %9d ", name, row.at("offered").get<std::int64_t>(),
                                     row.at("completed").get<std::int64_t>());
  for (const char* quantile : {"p50", "p95", "p99", "max"})
    absl::StrAppendFormat(&line, " %8s", seconds("latency_s", quantile));
  absl::StrAppendFormat(&line, "  %8s %8s\n", seconds("acknowledged_s", "p50"),
                        seconds("acknowledged_s", "p99"));
  return line;
}

}  // namespace

Json LoadReport(const LoadOptions& options, const LoadRun& run,
                const std::vector<std::optional<std::uint64_t>>& windows,
                const std::vector<MetricSample>& metrics) {
  const auto measured = [&](const LoadSample& sample) { return sample.intended_s >= options.warm_up_s; };
  std::map<std::string, std::size_t> failures;
  std::size_t failed_before = 0;
  std::size_t held = 0;
  std::vector<double> late;
  for (const LoadSample& sample : run.samples) {
    if (!sample.code.empty()) ++failures[sample.code];
    if (!sample.code.empty() && !measured(sample)) ++failed_before;
    if (sample.held) ++held;
    if (measured(sample)) late.push_back(sample.started_s - sample.intended_s);
  }
  Json report;
  report["models"] = options.models;
  report["seed"] = options.seed;
  if (options.closed > 0) {
    report["closed"] = options.closed;
  } else {
    report["rate_per_hour"] = options.per_second * 3600;
  }
  report["warm_up_s"] = options.warm_up_s;
  report["duration_s"] = options.duration_s;
  report["mix"] = Shares(options.priorities);
  report["sizes"] = Shares(options.sizes);
  for (std::size_t n = 0; n < windows.size(); ++n)
    report["windows"][options.sizes[n].name] = windows[n] ? Json(*windows[n]) : Json();
  report["all"] = Row(run.samples, measured);
  for (std::size_t n = 0; n < options.priorities.size(); ++n) {
    report["priorities"][options.priorities[n].name] =
        Row(run.samples, [&](const LoadSample& sample) { return measured(sample) && sample.priority == n; });
  }
  report["throughput"] = Throughput(options, run.samples, windows);
  report["failures"] = failures.empty() ? Json::object() : Json(failures);
  report["failed_in_warm_up"] = failed_before;
  report["most_open"] = run.most_open;
  report["max_open"] = options.max_open;
  report["held_by_max_open"] = held;
  report["sent_late_s"] = Quantiles(std::move(late));
  if (!metrics.empty()) report["server"] = Server(options, metrics);
  return report;
}

std::string LoadTable(const Json& report) {
  std::string text = absl::StrFormat("%-8s %8s %9s  %8s %8s %8s %8s  %8s %8s\n", "priority", "offered",
                                     "completed", "p50 s", "p95 s", "p99 s", "max s", "ack p50", "ack p99");
  for (const auto& [name, row] : report.at("priorities").items()) text += Row(name, row);
  text += Row("all", report.at("all"));
  const Json& throughput = report.at("throughput");
  absl::StrAppendFormat(&text, "throughput: %.0f studies/h", throughput.at("studies_per_hour").get<double>());
  if (!throughput.at("windows_per_s").is_null())
    absl::StrAppendFormat(&text, ", %.2f windows/s", throughput.at("windows_per_s").get<double>());
  absl::StrAppendFormat(&text, ", forward of all runs %.2f x the time\n",
                        throughput.at("forward_share").get<double>());
  if (report.contains("server") && !report.at("server").is_null()) {
    const Json& server = report.at("server");
    absl::StrAppendFormat(&text, "server: devices busy %.2f, runs waiting %.1f (most %.0f)",
                          server.at("busy_share").get<double>(), server.at("waiting_mean").get<double>(),
                          server.at("waiting_max").get<double>());
    if (server.contains("lanes_busy"))
      absl::StrAppendFormat(&text, ", lanes computing %.2f", server.at("lanes_busy").get<double>());
    if (server.contains("batch_fill"))
      absl::StrAppendFormat(&text, ", batches filled %.2f", server.at("batch_fill").get<double>());
    text += '\n';
  }
  if (const auto held = report.at("held_by_max_open").get<std::int64_t>(); held > 0) {
    absl::StrAppendFormat(
        &text, "--max-open %d held %d studies back; their latency counts from when they were due\n",
        report.at("max_open").get<std::int64_t>(), held);
  }
  for (const auto& [code, count] : report.at("failures").items())
    absl::StrAppendFormat(&text, "FAILED %s: %d\n", code, count.get<std::int64_t>());
  return text;
}

std::string LoadCsv(const LoadOptions& options, const LoadRun& run) {
  std::string text =
      "priority,size,measured,held,intended_s,started_s,acknowledged_s,final_s,latency_s,forward_s,code\n";
  const auto number = [](std::optional<double> value) {
    return value ? absl::StrFormat("%.4f", *value) : std::string();
  };
  for (const LoadSample& sample : run.samples) {
    const std::optional<double> latency =
        sample.final_s ? std::optional(*sample.final_s - sample.intended_s) : std::nullopt;
    absl::StrAppend(&text, options.priorities[sample.priority].name, ",", options.sizes[sample.study].name,
                    ",", sample.intended_s >= options.warm_up_s ? 1 : 0, ",", sample.held ? 1 : 0, ",");
    absl::StrAppend(&text, number(sample.intended_s), ",", number(sample.started_s), ",",
                    number(sample.acknowledged_s), ",", number(sample.final_s), ",", number(latency), ",",
                    number(sample.forward_s), ",", sample.code, "\n");
  }
  return text;
}

}  // namespace tomoserve::tomoctl
