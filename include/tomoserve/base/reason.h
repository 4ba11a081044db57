// Reasons: what an API answer says of why.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/v1/finding.pb.h"

namespace tomoserve::base {

// `code` UPPER_SNAKE, `value` the number or UID that decided (may be empty), `text` a sentence without
// patient values; all UTF-8.
v1::Reason MakeReason(std::string_view code, std::string_view value, std::string_view text);

// Reason code, deciding value and sentence of an error between rooms.
v1::Reason ReasonFrom(const absl::Status& status);

}  // namespace tomoserve::base
