#include "dispatch/device_ledger.h"

#include <algorithm>

#include "tomoserve/base/status.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::dispatch {
namespace {

// Runs of one urgency, or more urgent ones, on a device at a time; and of all.
constexpr std::size_t kRuns = 2;
constexpr std::size_t kMostRuns = 4;

}  // namespace

DeviceLedger DeviceLedger::Idle() const {
  DeviceLedger idle(budget_, host_budget_);
  idle.SetResident(resident_);
  return idle;
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
  if (demand.alone || IsTakenAlone() || runs_.size() >= kMostRuns) return false;
  const auto as_urgent = std::count_if(runs_.begin(), runs_.end(),
                                       [&](const auto& run) { return run.second.urgency >= demand.urgency; });
  return static_cast<std::size_t>(as_urgent) < kRuns;
}

bool DeviceLedger::Take(const std::string& run_id, const RunDemand& demand) {
  if (runs_.contains(run_id) || !Fits(demand)) return false;
  runs_.emplace(run_id, demand);
  run_bytes_ += demand.bytes;
  host_taken_ += demand.host_bytes;
  return true;
}

void DeviceLedger::SetUrgency(const std::string& run_id, std::uint32_t urgency) {
  const auto run = runs_.find(run_id);
  if (run != runs_.end()) run->second.urgency = urgency;
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
