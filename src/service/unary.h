// Unary calls: the work may block, so it runs on the pool.
#pragma once

#include <asio/post.hpp>
#include <asio/thread_pool.hpp>

#include "grpcpp/grpcpp.h"
#include "service/status.h"

namespace tomoserve::service {

// Calls `work()` (returns absl::Status) on the pool and finishes the call with its status. gRPC keeps request
// and response alive until then.
template <typename Work>
grpc::ServerUnaryReactor* OnPool(asio::thread_pool& pool, grpc::CallbackServerContext* context, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  asio::post(pool, [reactor, work = std::move(work)]() mutable { reactor->Finish(ToGrpc(work())); });
  return reactor;
}

// A method whose issue has not landed.
inline grpc::ServerUnaryReactor* NotYetUnary(grpc::CallbackServerContext* context, const char* method) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(NotYet(method));
  return reactor;
}

}  // namespace tomoserve::service
