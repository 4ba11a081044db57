// Errors between rooms: absl::Status with a reason code, and the two macros that pass them on.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tomoserve::base {

// A typed error: `reason` is the machine-readable code (UPPER_SNAKE, e.g. "STUDY_MISMATCH"), `value` the
// number or UID that decided (may be empty), `text` a sentence without patient values.
absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view value,
                   std::string_view text);

// The reason code of a status made by Error, or the canonical code's name ("INTERNAL") for any other.
std::string ReasonOf(const absl::Status& status);

// The deciding value of a status made by Error; empty for any other.
std::string ValueOf(const absl::Status& status);

}  // namespace tomoserve::base

// Debian's absl (20220623) has no such macros.
#define TS_CONCAT_(a, b) a##b
#define TS_CONCAT(a, b) TS_CONCAT_(a, b)

#define TS_RETURN_IF_ERROR(expression)                            \
  do {                                                            \
    if (absl::Status ts_status = (expression); !ts_status.ok()) { \
      return ts_status;                                           \
    }                                                             \
  } while (false)

#define TS_ASSIGN_OR_RETURN(declaration, expression) \
  TS_ASSIGN_OR_RETURN_(TS_CONCAT(ts_status_or_, __LINE__), declaration, expression)
#define TS_ASSIGN_OR_RETURN_(temporary, declaration, expression) \
  auto temporary = (expression);                                 \
  if (!temporary.ok()) {                                         \
    return std::move(temporary).status();                        \
  }                                                              \
  declaration = std::move(temporary).value()
