// Runs beside each other on one device: how many, in whose memory, and whether the first of them still moves.
#include <algorithm>
#include <utility>

#include "dispatch/devices.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Runs of one urgency, or more urgent ones, on a device at a time; and of all.
constexpr std::size_t kRuns = 2;
constexpr std::size_t kMostRuns = 4;

}  // namespace

bool Devices::HasRoom(std::size_t index, const RunDemand& demand) const {
  const Worker& worker = workers_[index];
  if (!worker.hello || (worker.loading != nullptr && LoadsAlone(worker, *worker.loading))) return false;
  const std::uint64_t memory = SharedBytesOf(index);
  const std::uint64_t check = KnownAnswerBytes(worker);
  const std::uint64_t taken = ModelBytesOn(index) + RunBytesOn(index) + check;
  const bool fits = demand.bytes <= memory - std::min(memory, taken);
  if (worker.runs.empty()) return check == 0 || fits;
  // A model that waits for an idle worker gets one: no run follows those that are there.
  if (demand.alone || !worker.to_load_again.empty() || worker.runs.size() >= kMostRuns) return false;
  std::size_t as_urgent = 0;
  for (const auto& [run_id, run] : worker.runs) {
    if (run.demand.alone) return false;
    as_urgent += run.demand.urgency >= demand.urgency ? 1 : 0;
  }
  return fits && as_urgent < kRuns;
}

std::uint64_t Devices::SharedBytesOf(std::size_t worker) const {
  const std::uint64_t memory = MemoryBytesOf(worker);
  if (!IsCpu(worker)) return memory;
  // Each CPU worker says what the machine has: it is one machine, and arenas lie there too.
  std::uint64_t cpus = 0;
  for (std::size_t other = 0; other < workers_.size(); ++other) cpus += IsCpu(other) ? 1 : 0;
  return (memory - std::min(memory, options_.host_bytes)) / cpus;
}

std::uint64_t Devices::RunBytesOn(std::size_t worker) const {
  std::uint64_t bytes = 0;
  for (const auto& [run_id, run] : workers_[worker].runs) bytes += run.demand.bytes;
  return bytes;
}

void Devices::UpdateRun(const std::string& run_id, std::uint32_t urgency, std::int64_t deadline_us) {
  for (Worker& worker : workers_) {
    const auto run = worker.runs.find(run_id);
    if (run == worker.runs.end()) continue;
    run->second.demand.urgency = urgency;
    ipc::v1::WorkerRequest request;
    request.mutable_update()->set_run_id(run_id);
    request.mutable_update()->set_urgency(urgency);
    request.mutable_update()->set_deadline_unix_us(deadline_us);
    if (const absl::Status status = worker.handle->Send(worker.life, request); !status.ok()) {
      // A worker that is gone has lost the run anyway.
      base::Log(base::LogLevel::kInfo, "update_not_sent",
                {{"run_id", run_id}, {"reason", base::ReasonOf(status)}});
    }
  }
}

void Devices::CheckFirst(Worker& worker) {
  if (worker.runs.size() < 2 || worker.loading != nullptr || !worker.checking.empty()) return;
  const auto first =
      std::min_element(worker.runs.begin(), worker.runs.end(), [](const auto& a, const auto& b) {
        const auto key = [](const RunOnDevice& run) {
          return std::pair(-std::int64_t{run.demand.urgency}, run.number);
        };
        return key(a.second) < key(b.second);
      });
  const double now_ms = base::MonotonicMs();
  if (worker.first != first->first) {
    worker.first = first->first;
    worker.first_since_ms = now_ms;
  }
  const double still_ms = now_ms - std::max(worker.first_since_ms, first->second.moved_ms);
  if (still_ms <= static_cast<double>(BoundsOf(worker).stage.count())) return;
  base::Log(base::LogLevel::kError, "run_stalled", {{"device", worker.device}, {"run_id", first->first}});
  worker.handle->Kill(worker.life, DeathCause::kWatchdog);
}

}  // namespace tomoserve::dispatch
