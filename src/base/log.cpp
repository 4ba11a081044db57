#include "tomoserve/base/log.h"

#include <spdlog/fmt/chrono.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "tomoserve/base/digest.h"

namespace tomoserve::base {
namespace {

spdlog::logger& Logger() {
  static const std::shared_ptr<spdlog::logger> logger = [] {
    auto made =
        std::make_shared<spdlog::logger>("tomoserve", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum Level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

std::string Now() {
  // UTC with milliseconds, RFC 3339.
  const auto now = std::chrono::system_clock::now();
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(now)),
                     ms);
}

}  // namespace

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  if (!Logger().should_log(Level(level))) return;
  nlohmann::ordered_json line;
  line["time"] = Now();
  const auto name = spdlog::level::to_string_view(Level(level));
  line["level"] = std::string(name.data(), name.size());
  line["event"] = event;
  for (const LogField& field : fields) {
    std::visit([&](const auto& value) { line[std::string(field.name)] = value; }, field.value);
  }
  // Replaces invalid UTF-8 instead of throwing.
  Logger().log(Level(level), line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void SetLogLevel(LogLevel level) { Logger().set_level(Level(level)); }

std::string HashedUid(std::string_view uid) {
  static const std::string key = [] {
    std::random_device device;
    return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
  }();
  return Sha256Hex(key + std::string(uid)).substr(0, 16);
}

}  // namespace tomoserve::base
