// tomoctl health: is the server ready for work? For health checks of containers and orchestrators.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <future>
#include <iostream>
#include <string>

#include "apps/tomoctl/client.h"
#include "apps/tomoctl/verbs.h"
#include "google/protobuf/empty.pb.h"
#include "google/protobuf/unknown_field_set.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/impl/codegen/proto_utils.h"  // messages of ours in a generic stub

namespace tomoserve::tomoctl {
namespace {

// Docker and Kubernetes give a check seconds; a server that answers later is not healthy.
constexpr auto kPatience = std::chrono::seconds(3);
constexpr int kStatusField = 1;  // of grpc.health.v1.HealthCheckResponse
constexpr std::uint64_t kServing = 1;
constexpr std::uint64_t kNotServing = 2;

// The last `status` of a HealthCheckResponse; 0 (UNKNOWN) where there is none.
std::uint64_t ServingStatus(const google::protobuf::UnknownFieldSet& fields) {
  std::uint64_t status = 0;
  for (int i = 0; i < fields.field_count(); ++i) {
    const google::protobuf::UnknownField& field = fields.field(i);
    if (field.number() == kStatusField && field.type() == google::protobuf::UnknownField::TYPE_VARINT) {
      status = field.varint();
    }
  }
  return status;
}

int Health(const Context& context) {
  // Debian's gRPC has no header for grpc.health.v1. The request for the whole server is an empty message, and
  // the response's one field is kept as an unknown one.
  using google::protobuf::Empty;
  grpc::TemplatedGenericStub<Empty, Empty> stub(Connect(context.server));
  grpc::ClientContext call;
  call.set_deadline(std::chrono::system_clock::now() + kPatience);
  const Empty request;
  Empty response;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&call, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&done](grpc::Status status) { done.set_value(std::move(status)); });
  const grpc::Status status = done.get_future().get();
  if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    std::cerr << "tomoctl: no answer from " << context.server << " within " << kPatience.count() << " s\n";
    return kUnreachable;
  }
  if (!status.ok()) return Report(status, context.server);
  const std::uint64_t serving = ServingStatus(Empty::GetReflection()->GetUnknownFields(response));
  std::puts(serving == kServing ? "SERVING" : serving == kNotServing ? "NOT_SERVING" : "UNKNOWN");
  return serving == kServing ? kDone : kFailed;
}

}  // namespace

void AddHealth(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand(
      "health", "Whether the server is ready: exit code 0 SERVING, 1 NOT_SERVING, 3 no answer");
  verb->callback([&context] { context.exit_code = Health(context); });
}

}  // namespace tomoserve::tomoctl
