// Addresses to listen on. There is no TLS yet: nothing listens on anything but loopback.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tomoserve::base {

struct LoopbackAddress {
  std::string host;  // "127.0.0.1", another address of 127/8, or "[::1]"
  int port = 0;      // 0: any
};

// Reads "HOST:PORT". `field` names the setting in the error's text. Errors: kInvalidArgument LISTEN_INVALID,
// NOT_LOOPBACK (value: the host).
absl::StatusOr<LoopbackAddress> ParseLoopback(std::string_view field, const std::string& address);

}  // namespace tomoserve::base
