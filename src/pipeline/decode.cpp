#include "pipeline/decode.h"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

#include "pipeline/decode_rules.h"
#include "pipeline/labeller.h"
#include "pipeline/own_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/region.h"

namespace tomoserve::pipeline {
namespace {

// Sees the scores of some voxels, whose channels lie `channel_stride` apart, the first voxel's place in the
// grid, and their labels.
template <typename Label>
using Watch = std::function<void(std::span<const float> scores, std::int64_t channel_stride,
                                 std::size_t begin, std::span<const Label> labels)>;

template <typename Label>
void NoWatch(std::span<const float>, std::int64_t, std::size_t, std::span<const Label>) {}

template <typename Label>
absl::Status LabelModelGrid(const Labeller<Label>& labeller, const ScoreField& scores,
                            const std::array<std::int64_t, 3>& size, std::span<Label> labels,
                            const compute::Parallel& parallel, const Watch<Label>& watch) {
  const std::int64_t slice_size = size[1] * size[2];
  return compute::ParallelFor(parallel, size[0], [&](std::int64_t slice, int) {
    const auto begin = static_cast<std::size_t>(slice * slice_size);
    const std::span<const float> of_slice = scores.all().subspan(begin);
    const std::span<Label> made = labels.subspan(begin, static_cast<std::size_t>(slice_size));
    labeller.Apply(of_slice, size[0] * slice_size, made);
    watch(of_slice, size[0] * slice_size, begin, made);
  });
}

// Slice by slice, so that resampled scores never exist as a whole.
template <typename Label>
absl::Status LabelVolumeGrid(const Labeller<Label>& labeller, const ScoreField& scores,
                             const std::array<std::int64_t, 3>& size, std::span<Label> labels,
                             const compute::Parallel& parallel, const Watch<Label>& watch) {
  struct Workspace {
    std::vector<float> slice;
    std::vector<float> scratch;
  };
  std::vector<Workspace> workspaces(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  const std::int64_t slice_size = size[1] * size[2];
  return compute::ParallelFor(parallel, size[0], [&](std::int64_t k, int worker) {
    Workspace& workspace = workspaces[static_cast<std::size_t>(worker)];
    workspace.slice.resize(static_cast<std::size_t>(scores.channels() * slice_size));
    scores.Read(k, workspace.slice, workspace.scratch);
    const auto begin = static_cast<std::size_t>(k * slice_size);
    const std::span<Label> made = labels.subspan(begin, static_cast<std::size_t>(slice_size));
    labeller.Apply(workspace.slice, slice_size, made);
    watch(workspace.slice, slice_size, begin, made);
  });
}

std::array<std::int64_t, 3> VolumeSize(const RunPlan& plan) {
  const std::array<std::uint32_t, 3>& size_ijk = plan.cropped.size_ijk();
  return {size_ijk[2], size_ijk[1], size_ijk[0]};
}

// A step that changes labels; any other one does nothing.
template <typename Label>
absl::Status Change(const v1::DecodeStep& step, const at::Tensor& region, compute::LabelGrid<Label> labels,
                    const compute::Parallel& parallel) {
  switch (step.step_case()) {
    case v1::DecodeStep::kKeepLargest:
      return compute::KeepLargestComponents<Label>(labels, step.keep_largest().label(),
                                                   step.keep_largest().count(), parallel);
    case v1::DecodeStep::kFillHoles:
      return compute::FillHoles<Label>(labels, step.fill_holes().label(), parallel);
    case v1::DecodeStep::kMergeLabels: {
      const auto& from = step.merge_labels().from();
      return compute::MergeLabels<Label>(labels.voxels, {from.data(), static_cast<std::size_t>(from.size())},
                                         step.merge_labels().into(), parallel);
    }
    case v1::DecodeStep::kKeepInRegion:
      return compute::KeepInRegion<Label>(
          labels, {region.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(region.numel())},
          step.keep_in_region().whole_components(), parallel);
    default:
      return absl::OkStatus();
  }
}

}  // namespace

template <typename Label>
absl::StatusOr<std::vector<Label>> DecodeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                                const compute::GridMap& to_volume, const at::Tensor& region,
                                                ScoreField& scores, std::span<Label> labels,
                                                const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    if (step.has_activation()) TS_RETURN_IF_ERROR(scores.Activate(step.activation(), parallel));
    if (step.has_to_volume_grid()) scores.ToVolumeGrid(to_volume, step.to_volume_grid().interpolation());
    if (!step.has_arg_max() && !step.has_threshold()) continue;
    const Labeller<Label> labeller(recipe, step);
    std::vector<Label> model_labels;
    if (scores.on_volume_grid()) {
      TS_RETURN_IF_ERROR(
          LabelVolumeGrid<Label>(labeller, scores, VolumeSize(plan), labels, parallel, NoWatch<Label>));
    } else {
      const std::array<std::int64_t, 3> size = compute::MemorySize(plan.grid);
      model_labels.resize(static_cast<std::size_t>(size[0] * size[1] * size[2]));
      TS_RETURN_IF_ERROR(
          LabelModelGrid<Label>(labeller, scores, size, model_labels, parallel, NoWatch<Label>));
      scores.ToVolumeGrid(to_volume, v1::INTERPOLATION_NEAREST);
    }
    return DecodeMadeLabels<Label>(recipe, plan, to_volume, region, std::move(model_labels), labels,
                                   parallel);
  }
  return std::vector<Label>();  // CheckDecode has refused it
}

absl::StatusOr<MadeLabels> MakeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                      const compute::GridMap& to_volume, ScoreField& scores,
                                      const compute::Parallel& parallel) {
  const auto step_of_labels =
      std::find_if(recipe.decode().begin(), recipe.decode().end(),
                   [](const v1::DecodeStep& step) { return step.has_arg_max() || step.has_threshold(); });
  for (auto step = recipe.decode().begin(); step != step_of_labels; ++step) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    if (step->has_activation()) TS_RETURN_IF_ERROR(scores.Activate(step->activation(), parallel));
    if (step->has_to_volume_grid()) scores.ToVolumeGrid(to_volume, step->to_volume_grid().interpolation());
  }
  const Labeller<std::uint16_t> labeller(recipe, *step_of_labels);
  const std::vector<std::vector<std::int64_t>> channels_of = ChannelsOfMadeLabels(recipe);
  const bool on_volume_grid = scores.on_volume_grid();
  const std::array<std::int64_t, 3> size = on_volume_grid ? VolumeSize(plan) : compute::MemorySize(plan.grid);
  const auto voxels = static_cast<std::size_t>(size[0] * size[1] * size[2]);
  MadeLabels made{std::vector<std::uint16_t>(voxels),
                  std::vector<float>(recipe.findings().empty() ? 0 : voxels)};
  const Watch<std::uint16_t> watch = [&](std::span<const float> of_voxels, std::int64_t channel_stride,
                                         std::size_t begin, std::span<const std::uint16_t> labels) {
    if (made.scores.empty()) return;
    SetOwnScores(channels_of, of_voxels, channel_stride, labels, made.scores.data() + begin);
  };
  const auto label = on_volume_grid ? LabelVolumeGrid<std::uint16_t> : LabelModelGrid<std::uint16_t>;
  TS_RETURN_IF_ERROR(label(labeller, scores, size, made.labels, parallel, watch));
  return made;
}

template <typename Label>
absl::StatusOr<std::vector<Label>> DecodeMadeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                                    const compute::GridMap& to_volume,
                                                    const at::Tensor& region, std::vector<Label> model_labels,
                                                    std::span<Label> labels,
                                                    const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  std::vector<Label> kept;
  bool made = false;
  const auto now = [&] {
    return model_labels.empty() ? compute::LabelGrid<Label>{labels, VolumeSize(plan)}
                                : compute::LabelGrid<Label>{model_labels, compute::MemorySize(plan.grid)};
  };
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    made = made || step.has_arg_max() || step.has_threshold();
    if (step.has_to_volume_grid() && !model_labels.empty()) {
      TS_RETURN_IF_ERROR(compute::ResampleLabels<Label>(
          model_labels, to_volume, step.to_volume_grid().interpolation(), labels, parallel));
      if (FindsOnModelGrid(recipe)) kept = std::move(model_labels);
      model_labels = {};
    }
    if (made) TS_RETURN_IF_ERROR(Change<Label>(step, region, now(), parallel));
  }
  return kept;
}

template absl::StatusOr<std::vector<std::uint8_t>> DecodeLabels<std::uint8_t>(
    const v1::Recipe&, const RunPlan&, const compute::GridMap&, const at::Tensor&, ScoreField&,
    std::span<std::uint8_t>, const compute::Parallel&);
template absl::StatusOr<std::vector<std::uint16_t>> DecodeLabels<std::uint16_t>(
    const v1::Recipe&, const RunPlan&, const compute::GridMap&, const at::Tensor&, ScoreField&,
    std::span<std::uint16_t>, const compute::Parallel&);
template absl::StatusOr<std::vector<std::uint8_t>> DecodeMadeLabels<std::uint8_t>(
    const v1::Recipe&, const RunPlan&, const compute::GridMap&, const at::Tensor&, std::vector<std::uint8_t>,
    std::span<std::uint8_t>, const compute::Parallel&);
template absl::StatusOr<std::vector<std::uint16_t>> DecodeMadeLabels<std::uint16_t>(
    const v1::Recipe&, const RunPlan&, const compute::GridMap&, const at::Tensor&, std::vector<std::uint16_t>,
    std::span<std::uint16_t>, const compute::Parallel&);

}  // namespace tomoserve::pipeline
