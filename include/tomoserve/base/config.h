// Text that people write: strict textproto, and the server's configuration.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "google/protobuf/message.h"
#include "tomoserve/config/v1/server.pb.h"

namespace tomoserve::base {

// N of "cuda:N", one or two decimal digits; nothing for any other name.
std::optional<int> CudaIndex(std::string_view device);

// Parses a textproto into `message`. An unknown field is an error. Errors: kInvalidArgument `reason`, value
// "line:column", text with what the parser says.
absl::Status ParseTextproto(std::string_view text, std::string_view reason,
                            google::protobuf::Message& message);

// Parses a configuration file's text. Errors: CONFIG_SYNTAX.
absl::StatusOr<config::v1::ServerConfig> ParseServerConfig(std::string_view text);

// Fills absent fields with the documented defaults and checks the rest. Errors: kInvalidArgument
// CONFIG_INVALID (value: the field).
absl::Status CompleteServerConfig(config::v1::ServerConfig& config);

// Memory that this process may use, bytes: the smallest of the machine's and its cgroups' limits.
std::uint64_t MemoryLimitBytes();

}  // namespace tomoserve::base
