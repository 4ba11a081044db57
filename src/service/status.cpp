#include "service/status.h"

#include <string>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tomoserve/base/status.h"

namespace tomoserve::service {
namespace {

constexpr std::size_t kMaxTextBytes = 1024;
constexpr int kRetrySeconds = 5;

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The numbers of absl's and gRPC's codes are the same by design.
  const auto code = static_cast<grpc::StatusCode>(static_cast<int>(status.code()));
  const std::string text(status.message().substr(0, kMaxTextBytes));

  google::rpc::Status details;
  details.set_code(static_cast<int>(code));
  details.set_message(text);
  google::rpc::ErrorInfo info;
  info.set_reason(base::ReasonOf(status));
  info.set_domain("tomoserve");
  if (const std::string value = base::ValueOf(status); !value.empty()) {
    (*info.mutable_metadata())["value"] = value;
  }
  details.add_details()->PackFrom(info);
  if (code == grpc::StatusCode::RESOURCE_EXHAUSTED || code == grpc::StatusCode::UNAVAILABLE) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(kRetrySeconds);
    details.add_details()->PackFrom(retry);
  }
  return {code, text, details.SerializeAsString()};
}

grpc::Status NotYet(const char* method) {
  return ToGrpc(base::Error(absl::StatusCode::kUnimplemented, "NOT_IN_THIS_VERSION", method,
                            std::string(method) + " is part of the API but not of this version"));
}

}  // namespace tomoserve::service
