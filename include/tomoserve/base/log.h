// One JSON object per line on stderr. Values come from an allow-list of fields: no patient data, no UIDs
// in clear (use HashedUid).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <variant>

namespace tomoserve::base {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view name;
  std::variant<std::string_view, std::int64_t, double, bool> value;
};

// Thread-safe. `event` is a short stable name ("run_done"), fields add values:
//   Log(LogLevel::kInfo, "run_done", {{"run_id", run_id}, {"ms", 12.5}});
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

// Lowest level that is written; the default is kInfo.
void SetLogLevel(LogLevel level);

// Keyed hash of a UID (key random per process unless set): equal UIDs are equal in one log, and nobody
// can tell which they are.
std::string HashedUid(std::string_view uid);

}  // namespace tomoserve::base
