// DownloadResult: the description, then the bytes in chunks; and streams that only end.
#pragma once

#include <asio/thread_pool.hpp>

#include "grpcpp/grpcpp.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/v1/study_service.pb.h"

namespace tomoserve::service {

// The reactor owns itself.
grpc::ServerWriteReactor<v1::DownloadResultResponse>* StartDownload(dispatch::Dispatcher& dispatcher,
                                                                    asio::thread_pool& pool,
                                                                    const v1::DownloadResultRequest& request);

// A stream that ends at once with `status`.
template <typename Response>
grpc::ServerWriteReactor<Response>* EndedStream(grpc::Status status) {
  class Ended final : public grpc::ServerWriteReactor<Response> {
   public:
    explicit Ended(grpc::Status status) { this->Finish(std::move(status)); }
    void OnDone() override { delete this; }
  };
  return new Ended(std::move(status));
}

}  // namespace tomoserve::service
