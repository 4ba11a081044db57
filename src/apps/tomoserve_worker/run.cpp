#include "apps/tomoserve_worker/run.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "apps/tomoserve_worker/run_request.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/hounsfield.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"
#include "tomoserve/pipeline/prepared_run.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::worker {
namespace {

struct WindowOutput final : executor::Job::Output {
  explicit WindowOutput(pipeline::Outputs answer) : outputs(std::move(answer)) {}
  pipeline::Outputs outputs;
};

// On a CPU a run whose arrays alone exceed the machine would end in the OOM killer, not in an error.
absl::Status CheckSize(const pipeline::RunPlan& plan, const LoadedModel& model, const RunResources& resources,
                       std::uint64_t resident_bytes) {
  const bool on_device = resources.device.is_cuda();
  TS_RETURN_IF_ERROR(volume::CheckRunFits(plan.peak_bytes, base::MemoryLimitBytes(),
                                          on_device ? 0 : resident_bytes, "this machine"));
  if (!on_device) return absl::OkStatus();
  // What a pass took at warm-up is resident; a larger window takes as much more as it is larger.
  const auto [x, y, z] = plan.grid.geometry.size_ijk();
  const double beyond = std::max(models::WarmUpRatio(model.recipe, {x, y, z}) - 1, 0.0);
  const auto forward_bytes = static_cast<std::uint64_t>(static_cast<double>(model.forward_bytes) * beyond);
  return volume::CheckRunFits(plan.device_peak_bytes + forward_bytes, resources.memory_bytes, resident_bytes,
                              "the device");
}

}  // namespace

struct Run::State {
  RunResources resources;
  std::shared_ptr<const LoadedModel> model;
  ipc::Mapping labels;
  std::uint32_t label_bytes_per_voxel = 0;
  std::unique_ptr<pipeline::PreparedRun> prepared;
  std::optional<volume::HounsfieldCounts> hounsfield;

  std::once_flag begun;
  double begun_ms = 0;      // first window
  double last_fold_ms = 0;  // end of the last window
};

Run::Run(std::unique_ptr<State> state) : state_(std::move(state)) {}
Run::~Run() = default;

absl::StatusOr<std::shared_ptr<Run>> Run::Prepare(const ipc::v1::StartRun& start,
                                                  std::vector<base::UniqueFd> fds,
                                                  std::shared_ptr<const LoadedModel> model,
                                                  const RunResources& resources, std::uint64_t resident_bytes,
                                                  std::function<bool()> cancelled) {
  TS_ASSIGN_OR_RETURN(RunRequest request, ReadRunRequest(start, fds));
  fds.clear();  // mappings keep what they need
  if (request.label_bytes_per_voxel < models::LabelBytesPerVoxel(model->recipe)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "label_bytes_per_voxel",
                       "the recipe's label values do not fit");
  }
  const compute::Placement placement{.device = resources.device.device()};
  TS_ASSIGN_OR_RETURN(const pipeline::RunPlan plan,
                      pipeline::PlanRun(model->recipe, request.geometry, placement));
  TS_RETURN_IF_ERROR(CheckSize(plan, *model, resources, resident_bytes));
  resources.device.Use();
  auto state = std::make_unique<State>();
  if (start.count_hounsfield()) {
    TS_ASSIGN_OR_RETURN(state->hounsfield,
                        compute::CountHounsfield(request.slices, request.geometry.size_ijk(),
                                                 {resources.threads, cancelled}));
  }
  TS_ASSIGN_OR_RETURN(state->prepared,
                      pipeline::PreparedRun::Create(model->recipe, request.geometry, request.slices,
                                                    {resources.threads, std::move(cancelled)}, placement));
  state->resources = resources;
  state->model = std::move(model);
  state->labels = std::move(request.labels);
  state->label_bytes_per_voxel = request.label_bytes_per_voxel;
  return std::shared_ptr<Run>(new Run(std::move(state)));
}

std::uint32_t Run::windows() const { return state_->prepared->windows(); }

absl::Status Run::Forward(std::uint32_t index, std::uint32_t, std::unique_ptr<Output>& output) {
  std::call_once(state_->begun, [&] { state_->begun_ms = base::MonotonicMs(); });
  state_->resources.device.Use();
  state_->resources.in_flight->AwaitRoom();
  const engine::Network& network = *state_->model->network;
  TS_ASSIGN_OR_RETURN(pipeline::Outputs outputs,
                      state_->prepared->ForwardWindow(
                          index, [&](const at::Tensor& input) { return network.Forward(input); }));
  state_->resources.in_flight->Mark();
  output = std::make_unique<WindowOutput>(std::move(outputs));
  return absl::OkStatus();
}

absl::Status Run::Fold(std::uint32_t index, std::unique_ptr<Output> output) {
  state_->resources.device.Use();
  TS_RETURN_IF_ERROR(state_->prepared->Fold(index, std::move(static_cast<WindowOutput&>(*output).outputs)));
  state_->last_fold_ms = base::MonotonicMs();
  return absl::OkStatus();
}

absl::StatusOr<ipc::v1::RunDone> Run::Finish() {
  state_->resources.device.Use();
  if (state_->resources.device.device().is_cuda()) {
    // Folds were only launched: their time is the windows', not that of what follows.
    state_->resources.in_flight->AwaitAll();
    state_->last_fold_ms = base::MonotonicMs();
  }
  TS_ASSIGN_OR_RETURN(pipeline::RunResult result,
                      state_->prepared->Finish(state_->labels.bytes(), state_->label_bytes_per_voxel));
  ipc::v1::RunDone done;
  done.mutable_findings()->Assign(result.findings.begin(), result.findings.end());
  done.mutable_labels()->Assign(result.labels.begin(), result.labels.end());
  if (result.lung) *done.mutable_lung() = *result.lung;
  if (state_->hounsfield) {
    ipc::v1::HounsfieldCounts& counts = *done.mutable_hounsfield();
    counts.set_all(state_->hounsfield->all);
    counts.set_body(state_->hounsfield->body);
    counts.set_tissue(state_->hounsfield->tissue);
    counts.set_dense(state_->hounsfield->dense);
  }
  // Stages add up to the time that passed: what lanes computed side by side counts once.
  double blend_ms = 0;
  for (const v1::StageTiming& timing : result.timings) {
    if (timing.stage() == "blend") blend_ms = timing.ms();
  }
  const double window_ms = state_->last_fold_ms - state_->begun_ms;
  for (v1::StageTiming& timing : result.timings) {
    if (timing.stage() == "forward") timing.set_ms(std::max(0.0, window_ms - blend_ms));
  }
  done.mutable_timings()->Assign(result.timings.begin(), result.timings.end());
  done.set_windows(windows());
  done.set_has_label_map(result.has_label_map);
  return done;
}

}  // namespace tomoserve::worker
