#include "apps/tomoctl/load_metrics.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdint>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/base/unique_fd.h"

namespace tomoserve::tomoctl {
namespace {

constexpr std::chrono::milliseconds kPeriod{500};
constexpr std::size_t kMostBytes = 16 << 20;

struct Place {
  ::sockaddr_in address{};
  std::string path;
};

std::optional<Place> ParseUrl(const std::string& url) {
  absl::string_view rest = url;
  if (!absl::ConsumePrefix(&rest, "http://")) return std::nullopt;
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  const std::pair<std::string, std::string> parts =
      absl::StrSplit(rest.substr(0, slash), absl::MaxSplits(':', 1));
  Place place;
  std::uint32_t port = 0;
  const std::string host = parts.first == "localhost" ? "127.0.0.1" : parts.first;
  place.address.sin_family = AF_INET;
  if (::inet_pton(AF_INET, host.c_str(), &place.address.sin_addr) != 1 ||
      !absl::SimpleAtoi(parts.second, &port) || port == 0 || port > 65535) {
    return std::nullopt;
  }
  place.address.sin_port = htons(static_cast<std::uint16_t>(port));
  place.path = slash < rest.size() ? std::string(rest.substr(slash)) : "/metrics";
  return place;
}

std::optional<std::string> LabelOf(const std::string& labels, const std::string& name) {
  const std::string start = absl::StrCat(name, "=\"");
  const std::size_t at = labels.find(start);
  if (at == std::string::npos) return std::nullopt;
  const std::size_t value = at + start.size();
  return labels.substr(value, labels.find('"', value) - value);
}

}  // namespace

std::vector<MetricLine> ParseMetrics(std::string_view text) {
  std::vector<MetricLine> lines;
  for (absl::string_view line : absl::StrSplit(base::ToAbsl(text), '\n')) {
    line = absl::StripSuffix(line, "\r");
    if (line.empty() || line.front() == '#') continue;
    // The value is the last word: the server writes no time stamps.
    const std::size_t space = line.rfind(' ');
    MetricLine made;
    if (space == absl::string_view::npos || !absl::SimpleAtod(line.substr(space + 1), &made.value)) continue;
    const absl::string_view series = line.substr(0, space);
    const std::size_t brace = std::min(series.find('{'), series.size());
    made.name = std::string(series.substr(0, brace));
    if (brace < series.size()) made.labels = std::string(absl::StripSuffix(series.substr(brace + 1), "}"));
    lines.push_back(std::move(made));
  }
  return lines;
}

std::optional<double> SumOf(const std::vector<MetricLine>& lines, std::string_view name) {
  std::optional<double> sum;
  for (const MetricLine& line : lines) {
    if (line.name == name) sum = sum.value_or(0) + line.value;
  }
  return sum;
}

MetricSample ToSample(const std::vector<MetricLine>& lines, double at_s) {
  MetricSample sample;
  sample.at_s = at_s;
  double devices = 0;
  for (const MetricLine& line : lines) {
    if (line.name == "tomoserve_device_busy") {
      ++devices;
      sample.busy += line.value;
    } else if (line.name == "tomoserve_runs_waiting") {
      sample.waiting += line.value;
      sample.waiting_by_priority[LabelOf(line.labels, "priority").value_or("")] += line.value;
    }
  }
  if (devices > 0) sample.busy /= devices;
  sample.in_flight = SumOf(lines, "tomoserve_runs_in_flight").value_or(0);
  sample.windows = SumOf(lines, "tomoserve_windows_total");
  sample.batch_windows = SumOf(lines, "tomoserve_batch_windows_total");
  sample.batch_slots = SumOf(lines, "tomoserve_batch_slots_total");
  sample.lane_seconds = SumOf(lines, "tomoserve_device_busy_seconds_total");
  return sample;
}

absl::StatusOr<std::string> FetchMetrics(const std::string& url) {
  const std::optional<Place> place = ParseUrl(url);
  if (!place) {
    return base::Error(absl::StatusCode::kInvalidArgument, "METRICS_URL", url,
                       "a metrics URL is http://ADDRESS:PORT/metrics with an IPv4 address or localhost");
  }
  const auto unreachable = [&] {
    return base::Error(absl::StatusCode::kUnavailable, "METRICS_UNREACHABLE", url,
                       absl::StrCat("no metrics at ", url));
  };
  const base::UniqueFd connection(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const ::timeval patience{.tv_sec = 2, .tv_usec = 0};
  ::setsockopt(connection.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const auto* address = reinterpret_cast<const ::sockaddr*>(&place->address);
  if (::connect(connection.get(), address, sizeof place->address) != 0) return unreachable();
  const std::string request =
      absl::StrCat("GET ", place->path, " HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  if (::send(connection.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<::ssize_t>(request.size())) {
    return unreachable();
  }
  std::string answer;
  std::string buffer(64 << 10, '\0');
  ::ssize_t got = 0;
  while (answer.size() < kMostBytes && (got = ::recv(connection.get(), buffer.data(), buffer.size(), 0)) > 0)
    answer.append(buffer, 0, static_cast<std::size_t>(got));
  const std::size_t body = answer.find("\r\n\r\n");
  const std::string status = answer.substr(0, answer.find("\r\n"));
  if (got < 0 || body == std::string::npos || !absl::StrContains(status, " 200")) return unreachable();
  return answer.substr(body + 4);
}

MetricsWatch::MetricsWatch(std::string url, std::chrono::steady_clock::time_point start)
    : url_(std::move(url)), start_(start), thread_([this] { Watch(); }) {}

MetricsWatch::~MetricsWatch() { Stop(); }

std::vector<MetricSample> MetricsWatch::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
  return samples_;
}

void MetricsWatch::Watch() {
  std::unique_lock lock(mutex_);
  for (auto next = start_; !wake_.wait_until(lock, next, [this] { return stop_; }); next += kPeriod) {
    lock.unlock();
    const std::chrono::duration<double> at = std::chrono::steady_clock::now() - start_;
    if (const auto text = FetchMetrics(url_); text.ok())
      samples_.push_back(ToSample(ParseMetrics(*text), at.count()));
    lock.lock();
  }
}

}  // namespace tomoserve::tomoctl
