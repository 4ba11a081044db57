// One run on this worker: from a checked request to a filled label map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/tomoserve_worker/run_request.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/launch_bound.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/pipeline/forward.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::worker {

// A warm model. Immutable.
struct LoadedModel {
  v1::Recipe recipe;
  std::vector<std::shared_ptr<const engine::Network>> networks;  // one, or of a composite one for each part
  std::shared_ptr<executor::Batcher> batcher;                    // of all its runs
  std::uint64_t weight_bytes() const;
  std::uint64_t forward_bytes =
      0;  // of the device, that passes of its largest batch on all lanes take; 0: not known
  std::shared_ptr<const models::KnownCase> known;  // null: the recipe has none
};

// Bytes that a worker's models and runs may use. A CPU is a device whose memory is the host's.
struct MemoryShare {
  std::uint64_t device = 0;
  std::uint64_t host = 0;
};

// What the runs of a worker share.
struct RunResources {
  engine::ComputeDevice device;
  std::shared_ptr<engine::LaunchBound> in_flight;  // of batches, over all runs
  MemoryShare memory;
  int threads = 1;  // that prepare and finish a run
  std::uint32_t lanes = 1;
  std::uint32_t ahead = 1;  // answers of a run that may wait to be folded
};

// The steps are called in this order, from different threads: Prepare, then the executor's calls, then
// Finish.
class Run final : public executor::Job {
 public:
  // Checks the request, maps what it may touch and prepares the volume on the device, in what
  // `resident_bytes` of loaded networks leave of its memory. `cancelled` is asked now and then, from any
  // thread. Errors: REQUEST_INVALID, CANCELLED, RUN_TOO_LARGE (value: bytes), and those of pipeline::PlanRun
  // and PreparedRun::Create.
  static absl::StatusOr<std::shared_ptr<Run>> Prepare(const ipc::v1::StartRun& start,
                                                      std::vector<base::UniqueFd> fds,
                                                      std::shared_ptr<const LoadedModel> model,
                                                      const RunResources& resources,
                                                      std::uint64_t resident_bytes,
                                                      std::function<bool()> cancelled);
  // The same of a checked request. What its spans point into must outlive the run, slices that the request
  // does not map itself until this returns where hounsfield_channels is empty.
  static absl::StatusOr<std::shared_ptr<Run>> Prepare(RunRequest request,
                                                      std::shared_ptr<const LoadedModel> model,
                                                      const RunResources& resources,
                                                      std::uint64_t resident_bytes,
                                                      std::function<bool()> cancelled);
  ~Run() override;

  std::uint32_t windows() const override;
  absl::Status Forward(std::uint32_t index, std::uint32_t lane, std::unique_ptr<Output>& output) override;
  absl::Status Fold(std::uint32_t index, std::unique_ptr<Output> output) override;

  // Forward's halves, for a batch with windows of the model's other runs. The network's input for a window,
  // as pipeline::PreparedRun::Gather; mirror images are of these dimensions; what Fold takes, and judges.
  absl::StatusOr<at::Tensor> Gather(std::uint32_t index);
  // Which of the model's networks computes a window.
  std::size_t NetworkOf(std::uint32_t index) const;
  const std::vector<std::int64_t>& mirror_dimensions() const;
  static std::unique_ptr<Output> OutputOf(pipeline::Outputs outputs);

  // After the last Fold: labels and measurements; the label map is filled.
  absl::StatusOr<ipc::v1::RunDone> Finish();

 private:
  struct State;
  explicit Run(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tomoserve::worker
