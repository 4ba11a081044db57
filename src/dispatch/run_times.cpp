#include "dispatch/run_times.h"

#include <algorithm>
#include <cmath>

namespace tomoserve::dispatch {
namespace {

constexpr double kNew = 0.25;
// No stage takes a day.
constexpr double kMostMs = 24.0 * 3600 * 1000;
// Nor do so many models times kinds of devices run before a restart.
constexpr std::size_t kMostKnown = 10000;

}  // namespace

double RoundsOf(std::uint32_t windows, std::uint32_t lanes) {
  return std::ceil(static_cast<double>(windows) / std::max(lanes, 1u));
}

std::optional<RunTime> TimeOf(const ipc::v1::RunDone& done, const RunWork& work, std::uint32_t lanes) {
  double forward_ms = 0;
  double other_ms = 0;
  for (const v1::StageTiming& timing : done.timings()) {
    if (!(timing.ms() >= 0 && timing.ms() < kMostMs)) return std::nullopt;
    (timing.stage() == "forward" ? forward_ms : other_ms) += timing.ms();
  }
  // Windows as they were predicted: where a recipe crops, what that leaves on the average is learnt, too.
  if (work.windows == 0 || work.voxels == 0 || forward_ms == 0) return std::nullopt;
  return RunTime{
      .ms_per_round = forward_ms / RoundsOf(work.windows, lanes) / std::max(work.window_ratio, 1.0),
      .ms_per_voxel = other_ms / static_cast<double>(work.voxels)};
}

double SecondsOf(const RunTime& time, const RunWork& work, std::uint32_t lanes) {
  const double window_ms =
      time.ms_per_round * RoundsOf(work.windows, lanes) * std::max(work.window_ratio, 1.0);
  return (window_ms + time.ms_per_voxel * static_cast<double>(work.voxels)) / 1000;
}

void RunTimes::Learn(const std::string& model_digest, const std::string& device_kind, const RunTime& time) {
  const auto key = std::pair(model_digest, device_kind);
  if (times_.size() >= kMostKnown && !times_.contains(key)) return;
  const auto [known, is_new] = times_.try_emplace(key, time);
  if (is_new) return;
  known->second.ms_per_round += kNew * (time.ms_per_round - known->second.ms_per_round);
  known->second.ms_per_voxel += kNew * (time.ms_per_voxel - known->second.ms_per_voxel);
}

std::optional<RunTime> RunTimes::Find(const std::string& model_digest, const std::string& device_kind) const {
  const auto known = times_.find(std::pair(model_digest, device_kind));
  return known == times_.end() ? std::nullopt : std::optional(known->second);
}

}  // namespace tomoserve::dispatch
