// Debian builds absl without std::string_view: its string_view is another type. These two convert.
#pragma once

#include <string_view>

#include "absl/strings/string_view.h"

namespace tomoserve::base {

inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace tomoserve::base
