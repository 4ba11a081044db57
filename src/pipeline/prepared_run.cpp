#include "tomoserve/pipeline/prepared_run.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <string>
#include <utility>

#include "pipeline/finish.h"
#include "pipeline/object_findings.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/on_device/components.h"
#include "tomoserve/compute/resample.h"

namespace tomoserve::pipeline {
namespace {

constexpr double kDefaultSigmaScale = 0.125;

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

// A window [x][y][z] as the network wants it.
at::Tensor ToNetwork(const v1::Network& network, const at::Tensor& window, at::IntArrayRef shape) {
  const bool xyz = network.axes() == v1::TENSOR_AXES_XYZ;
  // A 2D network has the slices of its context as channels.
  const at::Tensor ordered = network.spatial_dims() == 2
                                 ? (xyz ? window.permute({2, 0, 1}) : window.permute({2, 1, 0}))
                             : xyz ? window
                                   : window.permute({2, 1, 0});
  return ordered.contiguous().view(shape);
}

// A network's output as [c][x][y][z].
at::Tensor FromNetwork(const v1::Network& network, const at::Tensor& output) {
  const bool xyz = network.axes() == v1::TENSOR_AXES_XYZ;
  const at::Tensor channels = output.squeeze(0);
  if (network.spatial_dims() == 2) return (xyz ? channels : channels.permute({0, 2, 1})).unsqueeze(-1);
  return xyz ? channels : channels.permute({0, 3, 2, 1});
}

compute::Xyz OutputStart(const compute::WindowPlan& windows, std::uint32_t window) {
  compute::Xyz start = windows.starts[window];
  for (std::size_t axis = 0; axis < 3; ++axis) start[axis] += windows.output_offset[axis];
  return start;
}

absl::Status NotFinite(std::uint32_t window) {
  return base::Error(absl::StatusCode::kInternal, "NOT_FINITE", std::to_string(window),
                     "the network's output has values that are not finite numbers");
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
      plan_(std::move(plan)),
      parallel_(std::move(parallel)),
      placement_(placement) {}

absl::StatusOr<std::unique_ptr<PreparedRun>> PreparedRun::Create(const v1::Recipe& recipe,
                                                                 const volume::Geometry& volume,
                                                                 std::span<const compute::StoredSlice> slices,
                                                                 compute::Parallel parallel,
                                                                 compute::Placement placement) {
  const double start = base::MonotonicMs();
  TS_ASSIGN_OR_RETURN(RunPlan plan, PlanRun(recipe, volume, placement));
  std::unique_ptr<PreparedRun> run(new PreparedRun(recipe, std::move(plan), std::move(parallel), placement));
  TS_RETURN_IF_ERROR(compute::Fenced([&] { return run->Prepare(slices); }));
  run->prepare_ms_ = base::MonotonicMs() - start;
  return run;
}

absl::Status PreparedRun::Prepare(std::span<const compute::StoredSlice> slices) {
  TS_ASSIGN_OR_RETURN(at::Tensor volume,
                      compute::StoredToFloat(slices, plan_.volume.size_ijk(), parallel_, placement_));
  const bool needs_lung = recipe_.coverage().has_lung_inside();
  if (needs_lung && placement_.UsesLoops()) {
    TS_ASSIGN_OR_RETURN(lung_, compute::FindEnclosedAir(volume, plan_.volume, parallel_));
  }
  const v1::Preparation& preparation = recipe_.preparation();
  if (preparation.intensity_before_spacing()) {
    TS_RETURN_IF_ERROR(compute::ApplyIntensity(preparation.intensity(), volume, parallel_, placement_));
  }
  const v1::Interpolation interpolation =
      preparation.has_spacing() ? preparation.spacing().interpolation() : v1::INTERPOLATION_NEAREST;
  TS_ASSIGN_OR_RETURN(prepared_, compute::Resample(volume, compute::MapToModel(plan_.volume, plan_.grid),
                                                   interpolation, parallel_, placement_));
  volume.reset();
  if (needs_lung && !placement_.UsesLoops()) {
    // The host has time while the device resamples, and the stored values are at hand.
    TS_ASSIGN_OR_RETURN(lung_, compute::FindEnclosedAir(slices, plan_.volume, parallel_));
  }
  if (!preparation.intensity_before_spacing()) {
    TS_RETURN_IF_ERROR(compute::ApplyIntensity(preparation.intensity(), prepared_, parallel_, placement_));
  }
  const v1::Windows& windows_of_recipe = recipe_.windows();
  if (windows_of_recipe.blend() == v1::BLEND_GAUSSIAN &&
      windows_of_recipe.layout() == v1::WINDOW_LAYOUT_MONAI) {
    const double sigma_scale = windows_of_recipe.sigma_scale();
    importance_ = compute::GaussianImportance(plan_.windows.output_size,
                                              sigma_scale == 0 ? kDefaultSigmaScale : sigma_scale)
                      .to(placement_.device);
  }
  if (!placement_.UsesLoops()) {
    finite_ = at::zeros({windows()}, at::TensorOptions(at::kBool).device(placement_.device));
  }
  return absl::OkStatus();
}

absl::StatusOr<at::Tensor> PreparedRun::Gather(std::uint32_t window) const {
  if (window >= windows()) {
    return base::Error(absl::StatusCode::kOutOfRange, "NO_SUCH_WINDOW", std::to_string(window),
                       "the run has fewer windows");
  }
  return compute::Fenced([&]() -> absl::StatusOr<at::Tensor> {
    if (!prepared_.defined()) return FoldOrder("the run is finished");
    const at::Tensor cut = compute::CutWindow(
        compute::LogicalView(prepared_, plan_.grid), plan_.windows.starts[window], plan_.windows.size,
        recipe_.windows().padding_mode(), recipe_.windows().padding_value());
    return ToNetwork(recipe_.network(), cut, plan_.input_shape);
  });
}

absl::Status PreparedRun::CheckOutput(const at::Tensor& output) const {
  if (!output.defined() || output.scalar_type() != at::kFloat ||
      output.device().type() != placement_.device.type()) {
    return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_TYPE", "",
                       "the network's output is not float32 on the run's device");
  }
  if (output.sizes() != at::IntArrayRef(plan_.output_shape)) {
    return base::Error(absl::StatusCode::kInternal, "NETWORK_OUTPUT_SHAPE", Text(output.sizes()),
                       "the network's output does not have the shape " + Text(plan_.output_shape));
  }
  return absl::OkStatus();
}

// With plain loops at once; else a flag that CheckAllFinite looks at.
absl::Status PreparedRun::CheckFinite(std::uint32_t window, const at::Tensor& output) const {
  if (finite_.defined()) {
    finite_.select(0, window).copy_(compute::AllFiniteFlag(output));
    return absl::OkStatus();
  }
  return compute::AllFinite(output) ? absl::OkStatus() : NotFinite(window);
}

absl::Status PreparedRun::CheckAllFinite() const {
  if (!finite_.defined()) return absl::OkStatus();
  const double start = base::MonotonicMs();
  const at::Tensor flags = finite_.cpu();  // after all windows
  forward_ms_ += base::MonotonicMs() - start;
  const std::span<const bool> finite(flags.const_data_ptr<bool>(), windows());
  const auto bad = std::find(finite.begin(), finite.end(), false);
  if (bad == finite.end()) return absl::OkStatus();
  return NotFinite(static_cast<std::uint32_t>(bad - finite.begin()));
}

absl::StatusOr<at::Tensor> PreparedRun::ForwardWindow(std::uint32_t window, const Forward& forward) const {
  const double start = base::MonotonicMs();
  TS_ASSIGN_OR_RETURN(const at::Tensor input, Gather(window));
  TS_ASSIGN_OR_RETURN(at::Tensor output, ForwardMirrored(input, plan_.mirror_dimensions, forward));
  const absl::Status checked = compute::Fenced([&]() -> absl::Status {
    TS_RETURN_IF_ERROR(CheckOutput(output));
    // A device's is checked once, where it is folded.
    return placement_.UsesLoops() ? CheckFinite(window, output) : absl::OkStatus();
  });
  TS_RETURN_IF_ERROR(checked);
  forward_ms_ += base::MonotonicMs() - start;
  return output;
}

absl::Status PreparedRun::Fold(std::uint32_t window, at::Tensor output) {
  const double start = base::MonotonicMs();
  if (window != folded_ || window >= windows()) return FoldOrder("windows are folded in order, each once");
  return compute::Fenced([&]() -> absl::Status {
    TS_RETURN_IF_ERROR(CheckOutput(output));
    TS_RETURN_IF_ERROR(CheckFinite(window, output));
    if (!sums_.defined()) {
      const std::array<std::int64_t, 3> size = compute::MemorySize(plan_.grid);
      sums_ = at::zeros({recipe_.network().output_channels(), size[0], size[1], size[2]},
                        at::TensorOptions(at::kFloat).device(placement_.device));
    }
    at::Tensor sums = compute::LogicalView(sums_, plan_.grid);
    compute::AddWindow(FromNetwork(recipe_.network(), output), importance_,
                       OutputStart(plan_.windows, window), sums);
    ++folded_;
    blend_ms_ += base::MonotonicMs() - start;
    return absl::OkStatus();
  });
}

absl::StatusOr<RunResult> PreparedRun::Finish(std::span<std::byte> label_map, std::uint32_t bytes_per_voxel) {
  if (folded_ != windows() || !sums_.defined())
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
    if (bytes_per_voxel == 1) {
      return FinishAs<std::uint8_t>({reinterpret_cast<std::uint8_t*>(label_map.data()), voxels});
    }
    return FinishAs<std::uint16_t>({reinterpret_cast<std::uint16_t*>(label_map.data()), voxels});
  });
}

// Sum of the windows' weights over the model grid.
at::Tensor PreparedRun::Weights() const {
  const std::array<std::int64_t, 3> size = compute::MemorySize(plan_.grid);
  const at::Tensor weights = at::zeros(size, at::TensorOptions(at::kFloat).device(placement_.device));
  at::Tensor view = compute::LogicalView(weights, plan_.grid);
  compute::AddWeights(plan_.windows, importance_, view);
  return weights;
}

template <typename Label>
absl::StatusOr<RunResult> PreparedRun::FinishAs(std::span<Label> label_map) {
  const double start = base::MonotonicMs();
  prepared_.reset();
  at::Tensor weights;  // undefined where each voxel has been answered once
  if (recipe_.windows().layout() != v1::WINDOW_LAYOUT_SLICES) weights = Weights();
  const compute::GridMap to_volume = compute::MapToVolume(plan_.volume, plan_.grid);
  const DecodeInput input{recipe_, plan_, to_volume, placement_, parallel_};
  TS_ASSIGN_OR_RETURN(Decoded decoded, Decode<Label>(input, std::exchange(sums_, at::Tensor()),
                                                     std::move(weights), label_map));
  const double labelled = base::MonotonicMs();

  const std::array<std::uint32_t, 3>& size_ijk = plan_.volume.size_ijk();
  const compute::LabelGrid<const Label> grid{label_map, {size_ijk[2], size_ijk[1], size_ijk[0]}};
  TS_ASSIGN_OR_RETURN(const compute::ComponentSet components,
                      decoded.labels.defined() ? compute::on_device::FindComponents(decoded.labels, parallel_)
                                               : compute::FindComponents<Label>(grid, parallel_));
  decoded.labels.reset();
  RunResult result;
  result.labels = LabelExtents(recipe_, plan_.volume, components);
  TS_ASSIGN_OR_RETURN(result.findings, ObjectFindings<Label>(recipe_, plan_.volume, grid, components,
                                                             *decoded.scores, parallel_));
  if (lung_) {
    ipc::v1::LabelExtent& lung = result.lung.emplace();
    lung.set_voxels(lung_->voxels);
    lung.set_volume_ml(lung_->volume_ml);
    lung.set_first_k(lung_->first_k);
    lung.set_last_k(lung_->last_k);
    lung.set_touches_in_plane_border(lung_->touches_in_plane_border);
  }
  result.timings = {Timing("prepare", prepare_ms_), Timing("forward", forward_ms_),
                    Timing("blend", blend_ms_), Timing("labels", labelled - start),
                    Timing("measure", base::MonotonicMs() - labelled)};
  return result;
}

}  // namespace tomoserve::pipeline
