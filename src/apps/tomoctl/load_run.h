// Sends studies at the times that were planned and notes what became of each.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/tomoctl/load_plan.h"
#include "apps/tomoctl/load_studies.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::tomoctl {

struct LoadOptions {
  std::string server;
  std::vector<std::string> models;  // NAME[@VERSION]
  std::vector<Share> priorities;    // routine, urgent, stat
  std::vector<Share> sizes;         // of `studies`, in their order
  double per_second = 0;
  std::uint32_t closed = 0;  // not 0: that many studies are always open instead of arrivals at a rate
  std::uint64_t seed = 1;
  double warm_up_s = 0;
  double duration_s = 0;  // after the warm-up
  double drain_s = 0;     // how long is waited for what is open at the end
  std::uint32_t max_open = 0;
};

// One submission. Times are seconds after the start.
struct LoadSample {
  std::size_t priority = 0;
  std::size_t study = 0;
  double intended_s = 0;  // from which latency counts
  double started_s = 0;   // when it was sent
  bool held = false;      // max_open studies were open when it was due
  std::optional<double> acknowledged_s;
  std::optional<double> final_s;  // every run DONE
  std::string code;               // of what went wrong, else empty
  double forward_s = 0;           // of all its runs
  std::string study_uid;
};

struct LoadRun {
  std::vector<LoadSample> samples;  // by intended_s
  std::size_t most_open = 0;
};

// Blocks until every study is final or the drain is over. Codes: those of the server and of runs,
// NOT_APPLICABLE of a run, UNFINISHED after the drain, NOT_SENT of what max_open held until then, LOST where
// the server ended the answer without a result. `start` is the origin of all times.
LoadRun RunLoad(const LoadOptions& options, const std::vector<LoadStudy>& studies,
                std::chrono::steady_clock::time_point start);

// Windows that the models compute for a stored study. Nothing where the server does not say.
std::optional<std::uint64_t> WindowsOf(const LoadOptions& options, const std::string& study_uid);

}  // namespace tomoserve::tomoctl
