// The server around the services: where it listens, and what grpc.health.v1 says of it.
#include "tomoserve/service/server.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "service/fake_dispatcher.h"

namespace tomoserve::service {
namespace {

TEST(ServerTest, HealthEndsBeforeTheServer) {
  FakeDispatcher dispatcher;
  dispatcher.is_ready = false;
  auto server = StartServer({.listen = "127.0.0.1:0"}, dispatcher);
  ASSERT_TRUE(server.ok());
  const auto channel =
      grpc::CreateChannel(absl::StrCat("127.0.0.1:", (*server)->port()), grpc::InsecureChannelCredentials());
  // grpc.health.v1.HealthCheckResponse {status}: 1 is SERVING, 2 is NOT_SERVING; on the wire 08 and the
  // number.
  const auto health = [&] {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const grpc::Slice nothing("");
    const grpc::ByteBuffer request(&nothing, 1);
    const auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    std::vector<grpc::Slice> slices;
    if (!status.ok() || !answer.Dump(&slices).ok() || slices.empty() || slices[0].size() != 2) return -1;
    return static_cast<int>(slices[0].begin()[1]);
  };
  EXPECT_EQ(health(), 2);
  dispatcher.is_ready = true;
  (*server)->UpdateHealth();
  EXPECT_EQ(health(), 1);
  (*server)->StopServing();
  EXPECT_EQ(health(), 2);
  (*server)->UpdateHealth();
  EXPECT_EQ(health(), 2);
}

TEST(ServerTest, OnlyLoopbackIsServed) {
  FakeDispatcher dispatcher;
  for (const char* listen :
       {"0.0.0.0:0", "[::]:0", "192.168.1.1:0", "example.org:0", "127.0.0.1.evil.example:0"}) {
    const auto server = StartServer({.listen = listen}, dispatcher);
    ASSERT_FALSE(server.ok()) << listen;
    EXPECT_EQ(base::ReasonOf(server.status()), "NOT_LOOPBACK") << listen;
  }
  for (const char* listen : {"127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"}) {
    EXPECT_EQ(base::ReasonOf(StartServer({.listen = listen}, dispatcher).status()), "LISTEN_INVALID")
        << listen;
  }
}

TEST(ServerTest, TakenPortIsSaid) {
  FakeDispatcher dispatcher;
  const auto first = StartServer({.listen = "127.0.0.1:0"}, dispatcher);
  ASSERT_TRUE(first.ok());
  const auto second = StartServer({.listen = absl::StrCat("127.0.0.1:", (*first)->port())}, dispatcher);
  EXPECT_EQ(base::ReasonOf(second.status()), "LISTEN_FAILED");
}

}  // namespace
}  // namespace tomoserve::service
