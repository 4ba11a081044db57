#include "tomoserve/base/loopback.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::base {

absl::StatusOr<LoopbackAddress> ParseLoopback(std::string_view field, const std::string& address) {
  const auto invalid = [&] {
    return Error(absl::StatusCode::kInvalidArgument, "LISTEN_INVALID", address,
                 absl::StrCat(ToAbsl(field), ": \"", address, "\" is not HOST:PORT"));
  };
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) return invalid();
  LoopbackAddress parsed{address.substr(0, colon), 0};
  if (!absl::SimpleAtoi(address.substr(colon + 1), &parsed.port) || parsed.port < 0 || parsed.port > 65535) {
    return invalid();
  }
  // Names are not resolved: what "localhost" means is decided by a file that somebody else may write.
  const std::string& host = parsed.host;
  const bool v4 = host.rfind("127.", 0) == 0 && host.find_first_not_of("0123456789.") == std::string::npos;
  if (!v4 && host != "[::1]" && host != "localhost") {
    return Error(absl::StatusCode::kInvalidArgument, "NOT_LOOPBACK", host,
                 absl::StrCat(ToAbsl(field), ": ", host,
                              " is not a loopback address; without TLS only 127.0.0.1 and "
                              "[::1] are served"));
  }
  if (host == "localhost") parsed.host = "127.0.0.1";
  return parsed;
}

}  // namespace tomoserve::base
