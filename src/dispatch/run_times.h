// What runs took: a plan's seconds are learnt from them. Arithmetic only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "tomoserve/ipc/v1/worker.pb.h"

namespace tomoserve::dispatch {

// Of one run, as far as its time depends on it.
struct RunWork {
  std::uint32_t windows = 0;  // predicted
  std::uint64_t voxels = 0;   // of the volumes and the prepared volumes
  double window_ratio = 1;    // how many times as large as at warm-up a window is
};

// Of a model's runs on a kind of device that they had for themselves.
struct RunTime {
  double ms_per_round =
      0;  // of windows side by side, one on each lane; of the size that windows had at warm-up
  double ms_per_voxel = 0;  // of everything before the first window and after the last, and of blending
};

// Windows that follow each other on a lane.
double RoundsOf(std::uint32_t windows, std::uint32_t lanes);

// What a run took, as its worker says of its stages; nothing where that cannot be.
std::optional<RunTime> TimeOf(const ipc::v1::RunDone& done, const RunWork& work, std::uint32_t lanes);

// What a run with this work would take.
double SecondsOf(const RunTime& time, const RunWork& work, std::uint32_t lanes);

// By model and kind of device, each run a quarter of what was known: one odd run does not decide. Confined to
// one thread.
class RunTimes {
 public:
  void Learn(const std::string& model_digest, const std::string& device_kind, const RunTime& time);
  std::optional<RunTime> Find(const std::string& model_digest, const std::string& device_kind) const;

 private:
  std::map<std::pair<std::string, std::string>, RunTime> times_;
};

}  // namespace tomoserve::dispatch
