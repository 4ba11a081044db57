#include "dispatch/device_ledger.h"

#include <algorithm>

#include "tomoserve/base/status.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {
namespace {

// Runs of one urgency, or more urgent ones, on a device at a time; where they have few windows; and of all.
constexpr std::size_t kRuns = 2;
constexpr std::size_t kMostRuns = 16;
constexpr std::size_t kMostOfAll = kMostRuns + 2 * kRuns;
// Batches of each lane that are to be there: the one that is computed and the next one.
constexpr std::uint64_t kBatches = 2;

}  // namespace

DeviceLedger DeviceLedger::Idle(std::uint64_t resident) const {
  DeviceLedger idle(budget_, host_budget_, lanes_);
  idle.SetResident(resident);
  return idle;
}

bool DeviceLedger::FitsBeside(std::uint64_t bytes, std::uint64_t resident) const {
  const std::uint64_t others = resident + run_bytes_ + aside_;
  return others <= budget_ && bytes <= budget_ - others;
}

absl::Status DeviceLedger::CheckFitsEver(const RunDemand& demand) const {
  TS_RETURN_IF_ERROR(volume::CheckRunFits(demand.bytes, budget_, resident_, "the device"));
  return volume::CheckRunFits(demand.host_bytes, host_budget_, 0, "the host");
}

bool DeviceLedger::Fits(const RunDemand& demand) const {
  return demand.bytes <= free() && demand.host_bytes <= host_budget_ - host_taken_;
}

bool DeviceLedger::Admits(const RunDemand& demand) const {
  if (!Fits(demand)) return false;
  if (runs_.empty()) return true;
  if (demand.alone || IsTakenAlone() || runs_.size() >= kMostOfAll) return false;
  const auto as_urgent = static_cast<std::size_t>(std::count_if(
      runs_.begin(), runs_.end(), [&](const auto& run) { return run.second.urgency >= demand.urgency; }));
  return as_urgent < kRuns || (as_urgent < kMostRuns && WindowsMissing(demand) > 0);
}

std::uint64_t DeviceLedger::WindowsMissing(const RunDemand& demand) const {
  std::uint64_t left = 0;
  std::uint64_t bucket = demand.bucket;
  for (const auto& [run_id, run] : runs_) {
    if (run.urgency < demand.urgency) continue;
    left += run.windows;
    bucket = std::max<std::uint64_t>(bucket, run.bucket);
  }
  const std::uint64_t wanted = kBatches * lanes_ * bucket;
  return wanted - std::min(wanted, left);
}

bool DeviceLedger::Take(const std::string& run_id, const RunDemand& demand) {
  if (runs_.contains(run_id) || !Fits(demand)) return false;
  runs_.emplace(run_id, demand);
  run_bytes_ += demand.bytes;
  host_taken_ += demand.host_bytes;
  return true;
}

void DeviceLedger::SetOrder(const std::string& run_id, std::uint32_t urgency, std::int64_t deadline_us) {
  const auto run = runs_.find(run_id);
  if (run == runs_.end()) return;
  run->second.urgency = urgency;
  run->second.deadline_us = deadline_us;
}

void DeviceLedger::SetWindowsLeft(const std::string& run_id, std::uint32_t windows) {
  const auto run = runs_.find(run_id);
  if (run != runs_.end()) run->second.windows = windows;
}

void DeviceLedger::Give(const std::string& run_id) {
  const auto run = runs_.find(run_id);
  if (run == runs_.end()) return;
  run_bytes_ -= run->second.bytes;
  host_taken_ -= run->second.host_bytes;
  runs_.erase(run);
}

bool DeviceLedger::FitsAside(std::uint64_t bytes) const {
  return runs_.empty() || (!IsTakenAlone() && bytes <= free());
}

void DeviceLedger::TakeAside(std::uint64_t bytes) {
  aside_ = 0;
  aside_ = std::min(bytes, free());
}

bool DeviceLedger::IsTakenAlone() const {
  return std::any_of(runs_.begin(), runs_.end(), [](const auto& run) { return run.second.alone; });
}

}  // namespace tomoserve::dispatch
