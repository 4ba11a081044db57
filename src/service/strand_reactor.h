// What the streams share: a strand of the pool for all that they do, their end, and their lifetime.
#pragma once

#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <asio/thread_pool.hpp>
#include <memory>
#include <utility>

#include "grpcpp/grpcpp.h"

namespace tomoserve::service {

// gRPC's callbacks only post: everything else of a stream runs on its strand, one task at a time and never on
// gRPC's threads. The object lives from Begin to the last task posted before OnDone. `Reactor`: a server
// reactor of gRPC's callback API.
template <typename Reactor>
class StrandReactor : public Reactor, public std::enable_shared_from_this<StrandReactor<Reactor>> {
 public:
  void OnCancel() final {
    Post([this] { End(grpc::Status(grpc::StatusCode::CANCELLED, "the client went away")); });
  }
  void OnDone() final {
    // Posted last: every task before it has run when the object goes.
    Post([this] {
      Release();
      self_.reset();
    });
  }

  // Runs `task` on the strand. From any thread that holds the object.
  template <typename Task>
  void Post(Task task) {
    asio::post(strand_, [self = this->shared_from_this(), task = std::move(task)]() mutable { task(); });
  }

 protected:
  explicit StrandReactor(asio::thread_pool& pool) : strand_(asio::make_strand(pool)) {}

  // Keeps the object until OnDone. Before the first Post.
  void Begin(std::shared_ptr<StrandReactor> self) { self_ = std::move(self); }

  // Ends the call, once.
  void End(const grpc::Status& status) {
    if (std::exchange(ended_, true)) return;
    Release();
    this->Finish(status);
  }
  bool ended() const { return ended_; }

 private:
  // Lets go of what the stream holds elsewhere; called on the strand, perhaps twice.
  virtual void Release() {}

  asio::strand<asio::thread_pool::executor_type> strand_;
  std::shared_ptr<StrandReactor> self_;  // dropped by the last task
  bool ended_ = false;
};

}  // namespace tomoserve::service
