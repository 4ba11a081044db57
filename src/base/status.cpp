#include "tomoserve/base/status.h"

#include <optional>

#include "absl/strings/cord.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::base {
namespace {

constexpr char kReasonUrl[] = "tomoserve/reason";
constexpr char kValueUrl[] = "tomoserve/value";

}  // namespace

absl::Status Error(absl::StatusCode code, std::string_view reason, std::string_view value,
                   std::string_view text) {
  absl::Status status(code, ToAbsl(text));
  status.SetPayload(kReasonUrl, absl::Cord(ToAbsl(reason)));
  if (!value.empty()) {
    status.SetPayload(kValueUrl, absl::Cord(ToAbsl(value)));
  }
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  if (const auto reason = status.GetPayload(kReasonUrl)) {
    return std::string(*reason);
  }
  return absl::StatusCodeToString(status.code());
}

std::string ValueOf(const absl::Status& status) {
  const auto value = status.GetPayload(kValueUrl);
  return value ? std::string(*value) : std::string();
}

}  // namespace tomoserve::base
