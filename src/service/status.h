// From absl::Status to the wire.
#pragma once

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace tomoserve::service {

// Same canonical code; google.rpc.Status in the details with ErrorInfo{reason, domain "tomoserve", metadata
// {"value"}} and, for RESOURCE_EXHAUSTED and UNAVAILABLE, RetryInfo. Texts are capped at 1024 bytes.
grpc::Status ToGrpc(const absl::Status& status);

// For methods whose issue has not landed.
grpc::Status NotYet(const char* method);

}  // namespace tomoserve::service
