#include "apps/tomoserve_worker/run.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "apps/tomoserve_worker/run_request.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/hounsfield.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_bytes.h"
#include "tomoserve/pipeline/prepared_run.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::worker {
namespace {

struct WindowOutput final : executor::Job::Output {
  explicit WindowOutput(pipeline::Outputs answer) : outputs(std::move(answer)) {}
  pipeline::Outputs outputs;
};

// A run whose arrays exceed what the host has for them would end in the OOM killer, not in an error.
absl::Status CheckSize(const pipeline::RunPlan& plan, std::uint32_t time_points, const LoadedModel& model,
                       const RunResources& resources, std::uint64_t resident_bytes) {
  const bool on_device = resources.device.is_cuda();
  // What a pass took at warm-up is resident.
  const auto [x, y, z] = plan.grid.geometry.size_ijk();
  const std::uint64_t windows =
      plan.windows.starts.size() * models::NetworkCount(model.recipe) * std::uint64_t{time_points};
  const std::uint64_t window_bytes =
      models::WindowBytes(model.recipe, {x, y, z}, windows,
                          {.forward_bytes = model.forward_bytes,
                           .lanes = resources.lanes,
                           .bucket = model.batcher == nullptr ? 1 : model.batcher->largest_bucket(),
                           .ahead = resources.ahead});
  TS_RETURN_IF_ERROR(volume::CheckRunFits(plan.peak_bytes * time_points + (on_device ? 0 : window_bytes),
                                          resources.memory.host, on_device ? 0 : resident_bytes, "the host"));
  if (!on_device) return absl::OkStatus();
  return volume::CheckRunFits(plan.device_peak_bytes * time_points + window_bytes, resources.memory.device,
                              resident_bytes, "the device");
}

// Of all time points together.
absl::StatusOr<volume::HounsfieldCounts> CountHounsfield(const RunRequest& request,
                                                         const compute::Parallel& parallel) {
  volume::HounsfieldCounts sum;
  const std::size_t size_k = request.geometry.size_ijk()[2];
  for (std::uint32_t time_point = 0; time_point < request.time_points; ++time_point) {
    for (const std::uint32_t channel : request.hounsfield_channels) {
      if (channel >= request.channels) {
        return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "hounsfield_channels",
                           "no such channel");
      }
      TS_ASSIGN_OR_RETURN(
          const volume::HounsfieldCounts counts,
          compute::CountHounsfield(request.SlicesOf(time_point).subspan(channel * size_k, size_k),
                                   request.geometry.size_ijk(), parallel));
      sum.all += counts.all;
      sum.body += counts.body;
      sum.tissue += counts.tissue;
      sum.dense += counts.dense;
    }
  }
  return sum;
}

// Adds a time point's answer to those before it.
void Add(std::uint32_t time_point, pipeline::RunResult result, ipc::v1::RunDone& done) {
  for (v1::Finding& finding : result.findings) {
    finding.set_time_point(time_point);
    *done.add_findings() = std::move(finding);
  }
  for (ipc::v1::LabelExtent& extent : result.labels) {
    extent.set_time_point(time_point);
    *done.add_labels() = std::move(extent);
  }
  if (result.lung) *done.mutable_lung() = *result.lung;
  done.set_has_label_map(result.has_label_map);
  for (const v1::StageTiming& timing : result.timings) {
    const auto known =
        std::find_if(done.mutable_timings()->begin(), done.mutable_timings()->end(),
                     [&](const v1::StageTiming& other) { return other.stage() == timing.stage(); });
    if (known == done.mutable_timings()->end()) {
      *done.add_timings() = timing;
    } else {
      known->set_ms(known->ms() + timing.ms());
    }
  }
}

}  // namespace

std::uint64_t LoadedModel::weight_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& network : networks) bytes += network->weight_bytes();
  return bytes;
}

struct Run::State {
  RunResources resources;
  std::shared_ptr<const LoadedModel> model;
  ipc::Mapping label_map;
  std::span<std::byte> labels;
  std::uint32_t label_bytes_per_voxel = 0;
  std::vector<std::unique_ptr<pipeline::PreparedRun>> prepared;  // one per time point
  std::vector<std::uint32_t> first_window;                       // of each, in the run's count
  std::uint32_t windows = 0;
  std::optional<volume::HounsfieldCounts> hounsfield;
  // Of a run whose findings have a mean in Hounsfield units: what it is taken from, and where that lies.
  std::vector<ipc::Mapping> pixels;
  std::vector<compute::StoredSlice> slices;
  std::uint32_t hounsfield_channel = 0;
  std::uint32_t channels = 1;

  std::optional<pipeline::HounsfieldInput> HounsfieldOf(std::size_t time_point) const {
    if (slices.empty()) return std::nullopt;
    const std::size_t count = slices.size() / prepared.size() / channels;
    const std::size_t first = (time_point * channels + hounsfield_channel) * count;
    return pipeline::HounsfieldInput{hounsfield_channel, std::span(slices).subspan(first, count)};
  }

  std::once_flag begun;
  double begun_ms = 0;  // first window
  void NoteBegun() {
    std::call_once(begun, [&] { begun_ms = base::MonotonicMs(); });
  }
  double last_fold_ms = 0;  // end of the last window

  // The time point that a window of the run belongs to.
  std::size_t TimePointOf(std::uint32_t window) const {
    const auto next = std::upper_bound(first_window.begin(), first_window.end(), window);
    return static_cast<std::size_t>(next - first_window.begin()) - 1;
  }
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
  return Prepare(std::move(request), std::move(model), resources, resident_bytes, std::move(cancelled));
}

absl::StatusOr<std::shared_ptr<Run>> Run::Prepare(RunRequest request,
                                                  std::shared_ptr<const LoadedModel> model,
                                                  const RunResources& resources, std::uint64_t resident_bytes,
                                                  std::function<bool()> cancelled) {
  if (request.channels != static_cast<std::uint32_t>(model->recipe.inputs_size())) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "channels",
                       "not as many volumes as the recipe has inputs");
  }
  if (request.label_bytes_per_voxel < models::LabelBytesPerVoxel(model->recipe)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "label_bytes_per_voxel",
                       "the recipe's label values do not fit");
  }
  const compute::Placement placement{.device = resources.device.device()};
  TS_ASSIGN_OR_RETURN(const pipeline::RunPlan plan,
                      pipeline::PlanRun(model->recipe, request.geometry, placement));
  TS_RETURN_IF_ERROR(CheckSize(plan, request.time_points, *model, resources, resident_bytes));
  resources.device.Use();
  auto state = std::make_unique<State>();
  const compute::Parallel parallel{resources.threads, std::move(cancelled)};
  if (!request.hounsfield_channels.empty()) {
    TS_ASSIGN_OR_RETURN(state->hounsfield, CountHounsfield(request, parallel));
  }
  std::optional<pipeline::RegionLabels> region;
  if (request.region) region = {request.region->bytes(), request.region_bytes_per_voxel};
  for (std::uint32_t time_point = 0; time_point < request.time_points; ++time_point) {
    TS_ASSIGN_OR_RETURN(
        std::unique_ptr<pipeline::PreparedRun> prepared,
        pipeline::PreparedRun::Create(model->recipe, request.geometry, request.SlicesOf(time_point), parallel,
                                      placement, region));
    state->first_window.push_back(state->windows);
    state->windows += prepared->windows();
    state->prepared.push_back(std::move(prepared));
  }
  if (!request.hounsfield_channels.empty() && models::DetectorOf(model->recipe) == nullptr) {
    state->pixels = std::move(request.pixels);
    state->slices = std::move(request.slices);
    state->hounsfield_channel = request.hounsfield_channels.front();
    state->channels = request.channels;
  }
  state->resources = resources;
  state->model = std::move(model);
  state->label_map = std::move(request.label_map);
  state->labels = request.labels;
  state->label_bytes_per_voxel = request.label_bytes_per_voxel;
  return std::shared_ptr<Run>(new Run(std::move(state)));
}

std::uint32_t Run::windows() const { return state_->windows; }

absl::Status Run::Forward(std::uint32_t index, std::uint32_t, std::unique_ptr<Output>& output) {
  state_->NoteBegun();
  state_->resources.device.Use();
  state_->resources.in_flight->AwaitRoom();
  const engine::Network& network = *state_->model->networks[NetworkOf(index)];
  const std::size_t time_point = state_->TimePointOf(index);
  const pipeline::PreparedRun& prepared = *state_->prepared[time_point];
  const std::uint32_t window = index - state_->first_window[time_point];
  TS_ASSIGN_OR_RETURN(pipeline::Outputs outputs, prepared.ForwardWindow(window, [&](const at::Tensor& input) {
    return network.Forward(input);
  }));
  state_->resources.in_flight->Mark();
  output = OutputOf(std::move(outputs));
  return absl::OkStatus();
}

std::size_t Run::NetworkOf(std::uint32_t index) const {
  const std::size_t time_point = state_->TimePointOf(index);
  return state_->prepared[time_point]->PartOf(index - state_->first_window[time_point]);
}

absl::StatusOr<at::Tensor> Run::Gather(std::uint32_t index) {
  state_->NoteBegun();
  const std::size_t time_point = state_->TimePointOf(index);
  return state_->prepared[time_point]->Gather(index - state_->first_window[time_point]);
}

const std::vector<std::int64_t>& Run::mirror_dimensions() const {
  return state_->prepared.front()->plan().mirror_dimensions;
}

std::unique_ptr<executor::Job::Output> Run::OutputOf(pipeline::Outputs outputs) {
  return std::make_unique<WindowOutput>(std::move(outputs));
}

absl::Status Run::Fold(std::uint32_t index, std::unique_ptr<Output> output) {
  state_->resources.device.Use();
  const std::size_t time_point = state_->TimePointOf(index);
  TS_RETURN_IF_ERROR(state_->prepared[time_point]->Fold(
      index - state_->first_window[time_point], std::move(static_cast<WindowOutput&>(*output).outputs)));
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
  ipc::v1::RunDone done;
  const std::span<std::byte> labels = state_->labels;
  const std::size_t layer = labels.size() / state_->prepared.size();
  for (std::uint32_t time_point = 0; time_point < state_->prepared.size(); ++time_point) {
    TS_ASSIGN_OR_RETURN(pipeline::RunResult result,
                        state_->prepared[time_point]->Finish(labels.subspan(time_point * layer, layer),
                                                             state_->label_bytes_per_voxel,
                                                             state_->HounsfieldOf(time_point)));
    state_->prepared[time_point].reset();
    Add(time_point, std::move(result), done);
  }
  if (state_->hounsfield) {
    ipc::v1::HounsfieldCounts& counts = *done.mutable_hounsfield();
    counts.set_all(state_->hounsfield->all);
    counts.set_body(state_->hounsfield->body);
    counts.set_tissue(state_->hounsfield->tissue);
    counts.set_dense(state_->hounsfield->dense);
  }
  // Stages add up to the time that passed: what lanes computed side by side counts once.
  double blend_ms = 0;
  for (const v1::StageTiming& timing : done.timings()) {
    if (timing.stage() == "blend") blend_ms = timing.ms();
  }
  const double window_ms = state_->last_fold_ms - state_->begun_ms;
  for (v1::StageTiming& timing : *done.mutable_timings()) {
    if (timing.stage() == "forward") timing.set_ms(std::max(0.0, window_ms - blend_ms));
  }
  done.set_windows(windows());
  return done;
}

}  // namespace tomoserve::worker
