// What runs take on devices, and how long a device has work.
#include <algorithm>

#include "dispatch/devices.h"
#include "tomoserve/base/clock.h"

namespace tomoserve::dispatch {

void Devices::Learn(const Worker& worker, const ipc::v1::RunDone& done) {
  const RunOnDevice& run = worker.runs.at(done.run_id());
  if (run.shared) return;
  if (const auto time = TimeOf(done, run.work, worker.hello->lanes())) {
    times_.Learn(run.model_digest, worker.hello->device_kind(), *time);
  }
}

void Devices::NoteProgress(Worker& worker, const ipc::v1::RunProgress& progress) {
  RunOnDevice& run = worker.runs.at(progress.run_id());
  run.moved_ms = base::MonotonicMs();
  // What cannot be is the scheduler's to see.
  if (progress.windows_done() > progress.windows_total()) return;
  const std::uint32_t left = progress.windows_total() - progress.windows_done();
  worker.ledger.SetWindowsLeft(progress.run_id(), left);
  run.left = static_cast<double>(left) / std::max(progress.windows_total(), 1u);
}

double Devices::SecondsOn(std::size_t index, const models::Model& model, const Prediction& prediction) const {
  const Worker& worker = workers_[index];
  if (!worker.hello) return 0;
  const ModelOnDevice& state = ModelOn(index, model.model_digest);
  std::optional<WindowSpeed> speed;
  if (state.ms_per_window > 0) {
    speed = WindowSpeed{.ms_per_window = state.ms_per_window, .lanes = std::max(1u, worker.hello->lanes())};
  }
  return RunSeconds(model.recipe, prediction, speed,
                    times_.Find(model.model_digest, worker.hello->device_kind()));
}

double Devices::BacklogSeconds(std::size_t worker, std::uint32_t urgency) const {
  double seconds = 0;
  for (const auto& [run_id, run] : workers_[worker].runs) {
    // Windows of less urgent runs come later than its own.
    if (run.demand.urgency >= urgency) seconds += run.seconds * run.left;
  }
  return seconds;
}

}  // namespace tomoserve::dispatch
