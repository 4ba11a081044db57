// Runs beside each other on one device: how many, in whose memory, and whether the first of them still moves.
#include <algorithm>
#include <utility>

#include "dispatch/devices.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Of two deadlines; 0: none.
bool IsEarlier(std::int64_t a, std::int64_t b) { return a != 0 && (b == 0 || a < b); }

}  // namespace

bool Devices::HasRoom(std::size_t index, const RunDemand& demand) const {
  const Worker& worker = workers_[index];
  if (!worker.hello || (worker.loading != nullptr && LoadsAlone(worker, *worker.loading))) return false;
  // A model that waits for an idle worker gets one: no run follows those that are there.
  if (!worker.runs.empty() && !worker.to_load_again.empty()) return false;
  return worker.ledger.Admits(demand);
}

bool Devices::MayGet(std::size_t index, const std::string& model_digest) const {
  const Worker& worker = workers_[index];
  const v1::ModelReadiness readiness = ModelOn(index, model_digest).readiness;
  return !worker.lost && !worker.unusable &&
         (readiness == v1::MODEL_READINESS_COLD || readiness == v1::MODEL_READINESS_LOADING ||
          readiness == v1::MODEL_READINESS_ON_DEMAND);
}

std::uint64_t Devices::WindowsMissing(std::size_t worker, const RunDemand& demand) const {
  return workers_[worker].hello ? workers_[worker].ledger.WindowsMissing(demand) : 0;
}

std::uint64_t Devices::HostShare() const {
  // 0 would tell a worker that all is its own.
  return std::max<std::uint64_t>(1, options_.host_bytes / std::max<std::size_t>(1, workers_.size()));
}

void Devices::UpdateRun(const std::string& run_id, std::uint32_t urgency, std::int64_t deadline_us) {
  for (Worker& worker : workers_) {
    const auto run = worker.runs.find(run_id);
    if (run == worker.runs.end()) continue;
    run->second.demand.urgency = urgency;
    run->second.demand.deadline_us = deadline_us;
    worker.ledger.SetOrder(run_id, urgency, deadline_us);
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
  // Windows of runs whose deadline is earlier go before its own, though they started later.
  double moved_ms = std::max(worker.first_since_ms, first->second.moved_ms);
  for (const auto& [run_id, run] : worker.runs) {
    if (IsEarlier(run.demand.deadline_us, first->second.demand.deadline_us)) {
      moved_ms = std::max(moved_ms, run.moved_ms);
    }
  }
  const double still_ms = now_ms - moved_ms;
  if (still_ms <= static_cast<double>(BoundsOf(worker).stage.count())) return;
  base::Log(base::LogLevel::kError, "run_stalled", {{"device", worker.device}, {"run_id", first->first}});
  worker.handle->Kill(worker.life, DeathCause::kWatchdog);
}

}  // namespace tomoserve::dispatch
