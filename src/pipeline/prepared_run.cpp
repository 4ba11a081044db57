#include "tomoserve/pipeline/prepared_run.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "pipeline/box_findings.h"
#include "pipeline/decode_rules.h"
#include "pipeline/detector.h"
#include "pipeline/finish.h"
#include "pipeline/labelled_grid.h"
#include "pipeline/labels_in_pieces.h"
#include "pipeline/object_findings.h"
#include "pipeline/painted_labels.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/nnunet_windows.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/tensor_axes.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::pipeline {
namespace {

std::string Text(at::IntArrayRef sizes) {
  std::string text;
  for (const std::int64_t size : sizes) {
    if (!text.empty()) text.push_back('x');
    text.append(std::to_string(size));
  }
  return text;
}

absl::Status FoldOrder(const char* text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, "FOLD_ORDER", "", text);
}

// A window [x][y][z] in the order of the network's axes; for one of two dimensions z, which is its channels,
// first.
at::Tensor InNetworkOrder(const v1::Network& network, const at::Tensor& window) {
  std::vector<std::int64_t> order;
  if (network.spatial_dims() == 2) order.push_back(2);
  for (const std::size_t axis : models::SpatialAxes(network))
    order.push_back(static_cast<std::int64_t>(axis));
  return window.permute(order);
}

// A network's output as [c][x][y][z].
at::Tensor FromNetwork(const v1::Network& network, const at::Tensor& output) {
  const std::vector<std::size_t> axes = models::SpatialAxes(network);
  std::vector<std::int64_t> order{0};
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    order.push_back(1 + static_cast<std::int64_t>(models::DimensionOf(axes, axis)));
  }
  const at::Tensor channels = output.squeeze(0).permute(order);
  return network.spatial_dims() == 2 ? channels.unsqueeze(-1) : channels;
}

compute::Xyz OutputStart(const compute::WindowPlan& windows, std::uint32_t window) {
  compute::Xyz start = windows.starts[window];
  for (std::size_t axis = 0; axis < 3; ++axis) start[axis] += windows.output_offset[axis];
  return start;
}

absl::Status NotFinite(std::uint32_t window) {
  return base::Error(absl::StatusCode::kInternal, "NON_FINITE_OUTPUT", std::to_string(window),
                     "the network's output has values that are not finite numbers");
}

std::vector<v1::Recipe> NetworksOf(const v1::Recipe& recipe) {
  std::vector<v1::Recipe> networks;
  for (std::size_t part = 0; part < models::NetworkCount(recipe); ++part) {
    networks.push_back(models::NetworkRecipe(recipe, part));
  }
  return networks;
}

v1::StageTiming Timing(const char* stage, double ms) {
  v1::StageTiming timing;
  timing.set_stage(stage);
  timing.set_ms(ms);
  return timing;
}

}  // namespace

PreparedRun::PreparedRun(v1::Recipe recipe, RunPlan plan, compute::Parallel parallel,
                         compute::Placement placement)
    : recipe_(std::move(recipe)),
      networks_(NetworksOf(recipe_)),
      prepared_by_(models::PreparedBy(recipe_)),
      plan_(std::move(plan)),
      parallel_(std::move(parallel)),
      placement_(placement) {}

PreparedRun::~PreparedRun() = default;

absl::StatusOr<std::unique_ptr<PreparedRun>> PreparedRun::Create(
    const v1::Recipe& recipe, const volume::Geometry& volume, std::span<const compute::StoredSlice> slices,
    compute::Parallel parallel, compute::Placement placement, const std::optional<RegionLabels>& region) {
  const double start = base::MonotonicMs();
  TS_ASSIGN_OR_RETURN(RunPlan plan, PlanRun(recipe, volume, placement));
  std::unique_ptr<PreparedRun> run(new PreparedRun(recipe, std::move(plan), std::move(parallel), placement));
  TS_RETURN_IF_ERROR(compute::Fenced([&] { return run->Prepare(slices, region); }));
  run->prepare_ms_ = base::MonotonicMs() - start;
  return run;
}

absl::StatusOr<at::Tensor> PreparedRun::Gather(std::uint32_t window) const {
  if (window >= windows()) {
    return base::Error(absl::StatusCode::kOutOfRange, "NO_SUCH_WINDOW", std::to_string(window),
                       "the run has fewer windows");
  }
  return compute::Fenced([&]() -> absl::StatusOr<at::Tensor> {
    const std::vector<at::Tensor>& volumes = prepared_[prepared_by_[PartOf(window)]];
    if (volumes.empty()) return FoldOrder("the window is folded, or the run finished");
    const auto cut = [&](const at::Tensor& prepared) {
      return InNetworkOrder(
          recipe_.network(),
          compute::CutWindow(compute::LogicalView(prepared, plan_.grid),
                             plan_.windows.starts[window % WindowsOfPart()], plan_.windows.size,
                             recipe_.windows().padding_mode(), recipe_.windows().padding_value()));
    };
    if (volumes.size() == 1) return cut(volumes.front()).contiguous().view(plan_.input_shape);
    const at::Tensor input = at::empty(plan_.input_shape, volumes.front().options());
    for (std::size_t channel = 0; channel < volumes.size(); ++channel) {
      input.select(1, static_cast<std::int64_t>(channel)).copy_(cut(volumes[channel]));
    }
    return input;
  });
}

absl::Status PreparedRun::CheckOutputs(std::uint32_t window, const Outputs& outputs) const {
  std::vector<std::vector<std::int64_t>> shapes =
      plan_.heads ? plan_.heads->shapes : std::vector<std::vector<std::int64_t>>{plan_.output_shape};
  if (!plan_.heads) shapes.front()[1] = networks_[PartOf(window)].network().output_channels();
  if (outputs.tensors.size() != shapes.size()) {
    return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_SHAPE",
                       std::to_string(outputs.tensors.size()) + " tensors",
                       "the network does not answer with " + std::to_string(shapes.size()));
  }
  for (std::size_t n = 0; n < shapes.size(); ++n) {
    const at::Tensor& output = outputs.tensors[n];
    if (!output.defined() || output.scalar_type() != at::kFloat ||
        output.device().type() != placement_.device.type()) {
      return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_TYPE", "",
                         "the network's output is not float32 on the run's device");
    }
    if (output.sizes() != at::IntArrayRef(shapes[n])) {
      return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_SHAPE", Text(output.sizes()),
                         "the network's output does not have the shape " + Text(shapes[n]));
    }
  }
  return absl::OkStatus();
}

// With plain loops at once; else a flag that CheckAllFinite looks at.
absl::Status PreparedRun::CheckFinite(std::uint32_t window, const Outputs& outputs) const {
  if (outputs.known_finite) {
    if (finite_.defined()) finite_.select(0, window).fill_(true);
    return absl::OkStatus();
  }
  if (finite_.defined()) {
    at::Tensor flag = compute::AllFiniteFlag(outputs.tensors.front());
    for (std::size_t n = 1; n < outputs.tensors.size(); ++n) {
      flag = flag.logical_and(compute::AllFiniteFlag(outputs.tensors[n]));
    }
    finite_.select(0, window).copy_(flag);
    return absl::OkStatus();
  }
  const bool finite = std::all_of(outputs.tensors.begin(), outputs.tensors.end(), compute::AllFinite);
  return finite ? absl::OkStatus() : NotFinite(window);
}

absl::Status PreparedRun::CheckAllFinite() const {
  if (!finite_.defined()) return absl::OkStatus();
  const double start = base::MonotonicMs();
  const at::Tensor flags = finite_.cpu();  // after all windows that are folded
  forward_ms_ += base::MonotonicMs() - start;
  const std::span<const bool> finite(flags.const_data_ptr<bool>(), folded_);
  const auto bad = std::find(finite.begin(), finite.end(), false);
  if (bad == finite.end()) return absl::OkStatus();
  return NotFinite(static_cast<std::uint32_t>(bad - finite.begin()));
}

absl::StatusOr<Outputs> PreparedRun::ForwardWindow(std::uint32_t window, const Forward& forward) const {
  const double start = base::MonotonicMs();
  TS_ASSIGN_OR_RETURN(const at::Tensor input, Gather(window));
  TS_ASSIGN_OR_RETURN(Outputs outputs, ForwardMirrored(input, plan_.mirror_dimensions, forward));
  const absl::Status checked = compute::Fenced([&]() -> absl::Status {
    TS_RETURN_IF_ERROR(CheckOutputs(window, outputs));
    // A device's is checked once, where it is folded.
    if (!placement_.UsesLoops()) return absl::OkStatus();
    TS_RETURN_IF_ERROR(CheckFinite(window, outputs));
    outputs.known_finite = true;
    return absl::OkStatus();
  });
  TS_RETURN_IF_ERROR(checked);
  forward_ms_ += base::MonotonicMs() - start;
  return outputs;
}

bool PreparedRun::InPieces() const {
  return placement_.UsesLoops() && !placement_.whole_sums && volume::MakesLabelsInPieces(recipe_);
}

void PreparedRun::AddToSums(std::uint32_t window, const at::Tensor& output) {
  const v1::Recipe& network = networks_[PartOf(window)];
  const std::uint32_t of_part = window % WindowsOfPart();
  if (InPieces()) {
    if (!pieces_) pieces_ = std::make_unique<LabelsInPieces>(network, plan_, importance_);
    return pieces_->Add(of_part, FromNetwork(network.network(), output));
  }
  if (!sums_.defined()) {
    const std::array<std::int64_t, 3> size = compute::MemorySize(plan_.grid);
    sums_ = at::zeros({network.network().output_channels(), size[0], size[1], size[2]},
                      at::TensorOptions(at::kFloat).device(placement_.device));
  }
  at::Tensor sums = compute::LogicalView(sums_, plan_.grid);
  const auto add = SumsInHalf(recipe_) ? compute::AddWindowInHalf : compute::AddWindow;
  add(FromNetwork(network.network(), output), importance_, OutputStart(plan_.windows, of_part), sums);
}

absl::Status PreparedRun::EndPart(std::size_t part) {
  TS_RETURN_IF_ERROR(CheckAllFinite());
  const auto others = prepared_by_.begin() + static_cast<std::ptrdiff_t>(part) + 1;
  if (std::find(others, prepared_by_.end(), prepared_by_[part]) == prepared_by_.end()) {
    prepared_[prepared_by_[part]].clear();
  }
  if (!painted_) painted_ = std::make_unique<PaintedLabels>();
  if (pieces_) {
    Paint(pieces_->Take(), painted_->loops);
    pieces_.reset();
    return absl::OkStatus();
  }
  const compute::GridMap to_volume = compute::MapToVolume(plan_.cropped, plan_.grid);
  const DecodeInput input{networks_[part], plan_, to_volume, placement_, parallel_, region_};
  return PaintPart(input, std::exchange(sums_, at::Tensor()), WeightsOfSums(), *painted_);
}

absl::Status PreparedRun::Fold(std::uint32_t window, Outputs outputs) {
  const double start = base::MonotonicMs();
  if (window != folded_ || window >= windows()) return FoldOrder("windows are folded in order, each once");
  return compute::Fenced([&]() -> absl::Status {
    TS_RETURN_IF_ERROR(CheckOutputs(window, outputs));
    TS_RETURN_IF_ERROR(CheckFinite(window, outputs));
    if (maps_) {
      maps_->Add(window, std::move(outputs.tensors));
    } else {
      AddToSums(window, outputs.tensors.front());
    }
    ++folded_;
    if (models::IsComposite(recipe_) && folded_ % WindowsOfPart() == 0) {
      TS_RETURN_IF_ERROR(EndPart(PartOf(window)));
    }
    blend_ms_ += base::MonotonicMs() - start;
    return absl::OkStatus();
  });
}

absl::StatusOr<RunResult> PreparedRun::Finish(std::span<std::byte> label_map, std::uint32_t bytes_per_voxel,
                                              const std::optional<HounsfieldInput>& hounsfield) {
  if (folded_ != windows() || !(sums_.defined() || pieces_ || maps_ || painted_))
    return FoldOrder("the run is not complete, or finished already");
  const bool known = bytes_per_voxel == 1 || bytes_per_voxel == 2;
  if (!known || label_map.size() != plan_.volume.voxels() * bytes_per_voxel ||
      reinterpret_cast<std::uintptr_t>(label_map.data()) % bytes_per_voxel != 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "LABEL_MAP_SIZE", std::to_string(label_map.size()),
                       "the label map does not have the size of the volume");
  }
  const auto voxels = static_cast<std::size_t>(plan_.volume.voxels());
  return compute::Fenced([&]() -> absl::StatusOr<RunResult> {
    TS_RETURN_IF_ERROR(CheckAllFinite());
    if (maps_) return FinishBoxes();
    if (bytes_per_voxel == 1) {
      return FinishAs<std::uint8_t>({reinterpret_cast<std::uint8_t*>(label_map.data()), voxels}, hounsfield);
    }
    return FinishAs<std::uint16_t>({reinterpret_cast<std::uint16_t*>(label_map.data()), voxels}, hounsfield);
  });
}

// Sum of the windows' weights over the model grid; undefined where each voxel is answered once.
at::Tensor PreparedRun::WeightsOfSums() const {
  if (recipe_.windows().layout() == v1::WINDOW_LAYOUT_SLICES) return {};
  const std::array<std::int64_t, 3> size = compute::MemorySize(plan_.grid);
  const at::Tensor weights = at::zeros(size, at::TensorOptions(at::kFloat).device(placement_.device));
  at::Tensor view = compute::LogicalView(weights, plan_.grid);
  const auto add = SumsInHalf(recipe_) ? compute::AddWeightsInHalf : compute::AddWeights;
  add(plan_.windows, importance_, view);
  return weights;
}

template <typename Label>
absl::StatusOr<Decoded<Label>> PreparedRun::DecodeAs(const DecodeInput& input, std::span<Label> label_map) {
  if (painted_) {
    PaintedLabels painted = std::move(*painted_);
    painted_.reset();
    return DecodePainted<Label>(input, std::move(painted), label_map);
  }
  if (pieces_) {
    MadeLabels made = pieces_->Take();
    pieces_.reset();
    return DecodePieced<Label>(input, std::move(made), label_map);
  }
  return Decode<Label>(input, std::exchange(sums_, at::Tensor()), WeightsOfSums(), label_map);
}

template <typename Label>
absl::StatusOr<RunResult> PreparedRun::FinishAs(std::span<Label> label_map,
                                                const std::optional<HounsfieldInput>& hounsfield) {
  const double start = base::MonotonicMs();
  for (std::vector<at::Tensor>& volumes : prepared_) volumes.clear();
  const compute::GridMap to_volume = compute::MapToVolume(plan_.cropped, plan_.grid);
  const DecodeInput input{recipe_, plan_, to_volume, placement_, parallel_, region_};
  TS_ASSIGN_OR_RETURN(Decoded<Label> decoded, DecodeAs<Label>(input, label_map));
  region_.reset();
  const double labelled = base::MonotonicMs();

  TS_ASSIGN_OR_RETURN(
      const LabelledGrid<Label> volume,
      FindOnVolumeGrid<Label>(plan_, areas_, {label_map, std::move(decoded.labels), decoded.scores.get()},
                              parallel_));
  std::optional<LabelledGrid<Label>> model;
  if (!decoded.model.labels.empty()) {
    TS_ASSIGN_OR_RETURN(
        model, FindOnModelGrid<Label>(
                   plan_, areas_,
                   {decoded.model.labels, std::move(decoded.model.on_device), decoded.model.scores.get()},
                   parallel_));
  }
  std::optional<HounsfieldValues> values;
  if (hounsfield) {
    TS_ASSIGN_OR_RETURN(values, HounsfieldOf(recipe_, *hounsfield, plan_.volume));
  }
  RunResult result;
  result.labels = LabelExtents(recipe_, plan_.volume, areas_, volume.components);
  TS_ASSIGN_OR_RETURN(result.findings,
                      ObjectFindings<Label>(recipe_, volume, model ? &*model : nullptr, values, parallel_));
  Report(labelled - start, base::MonotonicMs() - labelled, result);
  return result;
}

absl::StatusOr<RunResult> PreparedRun::FinishBoxes() {
  const double start = base::MonotonicMs();
  for (std::vector<at::Tensor>& volumes : prepared_) volumes.clear();
  const std::vector<compute::Detection> boxes = BestBoxes(*models::DetectorOf(recipe_), *maps_);
  maps_.reset();
  const double decoded = base::MonotonicMs();
  RunResult result;
  result.has_label_map = false;
  result.findings = BoxFindings(recipe_, plan_, areas_, boxes);
  Report(decoded - start, base::MonotonicMs() - decoded, result);
  return result;
}

void PreparedRun::Report(double labels_ms, double measure_ms, RunResult& result) const {
  if (lung_) {
    ipc::v1::LabelExtent& lung = result.lung.emplace();
    lung.set_voxels(lung_->voxels);
    lung.set_volume_ml(lung_->volume_ml);
    lung.set_first_k(lung_->first_k);
    lung.set_last_k(lung_->last_k);
    lung.set_touches_in_plane_border(lung_->touches_in_plane_border);
  }
  result.timings = {Timing("prepare", prepare_ms_), Timing("forward", forward_ms_),
                    Timing("blend", blend_ms_), Timing("labels", labels_ms), Timing("measure", measure_ms)};
}

}  // namespace tomoserve::pipeline
