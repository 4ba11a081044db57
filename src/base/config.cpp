#include "tomoserve/base/config.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/tokenizer.h"
#include "google/protobuf/text_format.h"
#include "tomoserve/base/cgroup.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::base {
namespace {

constexpr std::uint64_t kMiB = 1ull << 20;
constexpr std::uint64_t kGiB = 1ull << 30;

// Keeps the first error: the ones after it are usually its consequences.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (!text_.empty()) return;
    where_ = absl::StrCat(line + 1, ":", column + 1);
    text_ = message;
  }
  // A deprecated field is not an error.
  void AddWarning(int, google::protobuf::io::ColumnNumber, const std::string&) override {}
  const std::string& where() const { return where_; }
  const std::string& text() const { return text_; }

 private:
  std::string where_;
  std::string text_;
};

absl::Status Invalid(std::string_view field, std::string_view text) {
  return Error(absl::StatusCode::kInvalidArgument, "CONFIG_INVALID", field, text);
}

bool IsDevice(const std::string& name) {
  return name == "cpu" || name == "auto" || name == "cuda:all" || CudaIndex(name).has_value();
}

absl::Status CheckDevices(const config::v1::ServerConfig& config) {
  bool counted = true;  // whether the names say how many there are
  for (auto device = config.devices().begin(); device != config.devices().end(); ++device) {
    if (!IsDevice(*device)) {
      return Invalid("devices",
                     absl::StrCat("devices: \"", *device, "\" is not cpu, cuda:N, cuda:all or auto"));
    }
    if (*device != "cpu" && std::find(config.devices().begin(), device, *device) != device) {
      return Invalid("devices", absl::StrCat("devices: ", *device, " is named twice"));
    }
    counted = counted && *device != "auto" && *device != "cuda:all";
  }
  const auto gpus = std::count_if(config.devices().begin(), config.devices().end(),
                                  [](const std::string& device) { return device != "cpu"; });
  if (!counted && gpus > 1) {
    return Invalid("devices", "devices: auto and cuda:all name every GPU; name no other beside them");
  }
  if (counted && config.min_devices() > static_cast<std::uint32_t>(config.devices_size())) {
    return Invalid("min_devices", "min_devices: more than there are devices");
  }
  return absl::OkStatus();
}

// The worker's own options refuse the same.
absl::Status CheckBuckets(const config::v1::ServerConfig& config) {
  constexpr std::uint32_t kMostWindows = 64;
  const auto& buckets = config.batch_buckets();
  if (buckets.empty()) return absl::OkStatus();
  const bool ascending =
      std::adjacent_find(buckets.begin(), buckets.end(), std::greater_equal<>()) == buckets.end();
  if (buckets[0] != 1 || !ascending || *buckets.rbegin() > kMostWindows) {
    return Invalid("batch_buckets", "batch_buckets: sizes ascend from 1, as [1, 2, 4], to at most 64");
  }
  return absl::OkStatus();
}

template <typename Number>
Number Default(Number value, Number fallback) {
  return value == 0 ? fallback : value;
}

}  // namespace

std::optional<int> CudaIndex(std::string_view device) {
  constexpr std::string_view kPrefix = "cuda:";
  if (device.substr(0, kPrefix.size()) != kPrefix) return std::nullopt;
  const std::string digits(device.substr(kPrefix.size()));
  if (digits.empty() || digits.size() > 2) return std::nullopt;
  if (digits.find_first_not_of("0123456789") != std::string::npos) return std::nullopt;
  return std::stoi(digits);
}

absl::Status ParseTextproto(std::string_view text, std::string_view reason,
                            google::protobuf::Message& message) {
  google::protobuf::TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(std::string(text), &message)) return absl::OkStatus();
  return Error(absl::StatusCode::kInvalidArgument, reason, error.where(),
               absl::StrCat("line ", error.where(), ": ", error.text()));
}

absl::StatusOr<config::v1::ServerConfig> ParseServerConfig(std::string_view text) {
  config::v1::ServerConfig config;
  TS_RETURN_IF_ERROR(ParseTextproto(text, "CONFIG_SYNTAX", config));
  return config;
}

absl::Status CompleteServerConfig(config::v1::ServerConfig& config) {
  const unsigned cores = std::max(1u, std::thread::hardware_concurrency());
  if (config.listen().empty()) config.set_listen("127.0.0.1:8400");
  if (config.data().empty())
    return Invalid("data", "data: a folder for the database and the spool is needed");
  if (config.models().empty()) return Invalid("models", "models: at least one model repository is needed");
  if (config.devices().empty()) config.add_devices("cpu");
  TS_RETURN_IF_ERROR(CheckDevices(config));
  TS_RETURN_IF_ERROR(CheckBuckets(config));
  if (!config.lock_folder().empty() && config.lock_folder().front() != '/') {
    // Every server of the host must mean the same folder.
    return Invalid("lock_folder", "lock_folder: must be an absolute path");
  }
  config.set_helper_leases(Default(config.helper_leases(), std::min(cores, 8u)));
  config.set_cpu_lanes(Default(config.cpu_lanes(), cores));
  config.set_device_grace_ms(Default<std::uint64_t>(config.device_grace_ms(), 30000));
  config.set_idle_upload_ms(Default<std::uint64_t>(config.idle_upload_ms(), 3600000));
  config.set_max_study_age_days(Default(config.max_study_age_days(), 7u));
  config.set_max_generations_per_hour(Default(config.max_generations_per_hour(), 3u));
  config::v1::Limits& limits = *config.mutable_limits();
  limits.set_instance_bytes(Default(limits.instance_bytes(), 512 * kMiB));
  if (limits.instance_bytes() > 2 * kGiB) {
    return Invalid("limits.instance_bytes", "limits.instance_bytes: at most 2 GiB");
  }
  limits.set_study_instances(Default(limits.study_instances(), 20000u));
  limits.set_study_bytes(Default(limits.study_bytes(), 20 * kGiB));
  limits.set_min_free_bytes(Default(limits.min_free_bytes(), kGiB));
  limits.set_arena_bytes(Default(limits.arena_bytes(), MemoryLimitBytes() / 2));
  limits.set_open_uploads(Default(limits.open_uploads(), 64u));
  limits.set_nesting(Default(limits.nesting(), 64u));
  limits.set_elements(Default(limits.elements(), 1'000'000u));
  limits.set_pixel_bytes(Default(limits.pixel_bytes(), 4 * kGiB));
  return absl::OkStatus();
}

std::uint64_t MemoryLimitBytes() {
  const auto pages = static_cast<std::uint64_t>(std::max(0l, ::sysconf(_SC_PHYS_PAGES)));
  const std::uint64_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return std::min(bytes, CgroupMemoryLimit().value_or(bytes));
}

}  // namespace tomoserve::base
