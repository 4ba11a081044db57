// One client of a load test: sends a study at a time and waits for its runs.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "apps/tomoctl/load_run.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {

// With a connection of its own, as clients have. Confined to one thread.
class LoadCall {
 public:
  // `options` outlives it. `nonce` tells this load from every other.
  LoadCall(const LoadOptions& options, const std::string& nonce);
  // Sends submission `number` and fills the sample. Ends at `until_s` after `start` at the latest.
  void Send(const LoadStudy& study, std::size_t number, std::chrono::steady_clock::time_point start,
            double until_s, LoadSample& sample);

 private:
  const LoadOptions& options_;
  const std::string nonce_;
  const std::unique_ptr<v1::StudyService::Stub> stub_;
};

}  // namespace tomoserve::tomoctl
