#include "tomoserve/base/reason.h"

#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::base {

v1::Reason MakeReason(std::string_view code, std::string_view value, std::string_view text) {
  v1::Reason reason;
  reason.set_code(std::string(code));
  reason.set_value(std::string(value));
  reason.set_text(std::string(text));
  return reason;
}

v1::Reason ReasonFrom(const absl::Status& status) {
  return MakeReason(ReasonOf(status), ValueOf(status), ToStd(status.message()));
}

}  // namespace tomoserve::base
