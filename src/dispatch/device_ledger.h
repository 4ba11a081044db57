// What one device has room for: its memory, and places for runs. Arithmetic only: no processes, no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"

namespace tomoserve::dispatch {

// What a run asks of a device.
struct RunDemand {
  std::uint32_t urgency = 0;     // higher first
  std::int64_t deadline_us = 0;  // since 1970; 0: none
  std::uint32_t windows = 0;     // predicted; 0: not known
  std::uint32_t bucket = 1;      // windows of its model's largest batch there
  std::uint64_t bytes = 0;       // predicted of its arrays there
  std::uint64_t host_bytes = 0;  // of those on the host, beside a GPU
  // Nothing else may go on there. So is a run whose bytes cannot be predicted: `bytes` is 0 then, and the
  // worker judges it.
  bool alone = false;
};

// Bytes of a budget: what stays (models), and what comes and goes: runs, and one other thing beside them, a
// model being loaded or a known answer. Whatever is taken was asked for first, and the sum of all is never
// above the budget; only what stays may take more than was asked for, as a model does whose memory is known
// when it is warm. Nothing more is taken then until it fits again. Confined to one thread.
class DeviceLedger {
 public:
  DeviceLedger() = default;
  // `host_budget`: of the host's memory for arrays beside the device's; a CPU's are the device's. `lanes`
  // compute windows.
  DeviceLedger(std::uint64_t budget, std::uint64_t host_budget, std::uint32_t lanes = 1)
      : budget_(budget), host_budget_(host_budget), lanes_(lanes) {}

  std::uint64_t budget() const { return budget_; }
  std::uint64_t resident() const { return resident_; }
  // Of runs alone, and of everything.
  std::uint64_t run_bytes() const { return run_bytes_; }
  std::uint64_t taken() const { return resident_ + run_bytes_ + aside_; }
  std::uint64_t host_taken() const { return host_taken_; }
  std::size_t runs() const { return runs_.size(); }

  void SetResident(std::uint64_t bytes) { resident_ = bytes; }
  // The same device with nothing that comes and goes, and with so many bytes that stay.
  DeviceLedger Idle(std::uint64_t resident) const;

  // Whether it would fit if nothing came and went. Errors: kResourceExhausted RUN_TOO_LARGE (value: the bytes
  // that it needs; the text says how many there are for it).
  absl::Status CheckFitsEver(const RunDemand& demand) const;
  // Whether it fits now.
  bool Fits(const RunDemand& demand) const;
  // Whether it fits now and has a place: two runs keep a device busy while one of them is prepared or
  // finished, and more, up to 16, where these have too few windows left for its batches. Runs that are less
  // urgent do not take a place, up to 20 in all. A run that is alone has no other one beside it.
  bool Admits(const RunDemand& demand) const;
  // Windows that runs as urgent are short of what keeps every lane in its largest batch and the next one.
  std::uint64_t WindowsMissing(const RunDemand& demand) const;

  // Takes what the run needs. False, and nothing is taken, where it does not fit or is there already.
  bool Take(const std::string& run_id, const RunDemand& demand);
  void SetOrder(const std::string& run_id, std::uint32_t urgency, std::int64_t deadline_us);
  void SetWindowsLeft(const std::string& run_id, std::uint32_t windows);
  // What is not there is given back already.
  void Give(const std::string& run_id);

  // Whether so many bytes would be free if only `resident` of what stays did.
  bool FitsBeside(std::uint64_t bytes, std::uint64_t resident) const;

  // For what is no run. Without runs it may begin whatever it needs: then it takes what is left.
  bool FitsAside(std::uint64_t bytes) const;
  void TakeAside(std::uint64_t bytes);
  void GiveAside() { aside_ = 0; }
  // Whether a run is there that nothing else may go on beside.
  bool IsTakenAlone() const;

 private:
  std::uint64_t free() const { return budget_ > taken() ? budget_ - taken() : 0; }

  std::uint64_t budget_ = 0;
  std::uint64_t host_budget_ = 0;
  std::uint32_t lanes_ = 1;
  std::uint64_t resident_ = 0;
  std::uint64_t run_bytes_ = 0;
  std::uint64_t host_taken_ = 0;
  std::uint64_t aside_ = 0;
  std::map<std::string, RunDemand> runs_;  // by run id; their windows are those that are left
};

}  // namespace tomoserve::dispatch
