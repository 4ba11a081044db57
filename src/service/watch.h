// WatchStudy: the study now and after each change, until its summary is FINAL.
#pragma once

#include <asio/thread_pool.hpp>
#include <string>

#include "grpcpp/grpcpp.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/v1/study_service.pb.h"

namespace tomoserve::service {

// The reactor owns itself.
grpc::ServerWriteReactor<v1::WatchStudyResponse>* StartWatch(dispatch::Dispatcher& dispatcher,
                                                             asio::thread_pool& pool, std::string study_uid);

}  // namespace tomoserve::service
