#include "pipeline/decode_on_device.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "pipeline/decode_rules.h"
#include "pipeline/own_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/components.h"
#include "tomoserve/compute/on_device/labels.h"
#include "tomoserve/models/parts.h"

namespace tomoserve::pipeline {
namespace {

// The label values of the channels; undefined where these are the channels.
at::Tensor ValuesOfChannels(const v1::Recipe& recipe, const at::Tensor& like) {
  if (!models::IsComposite(recipe)) return {};
  std::vector<std::int64_t> values{0};
  for (std::uint32_t channel = 1; channel < recipe.network().output_channels(); ++channel) {
    values.push_back(ArgMaxLabel(recipe, channel));
  }
  return at::tensor(values).to(like.device(), like.scalar_type());
}

// `watch` sees each piece: its first slice, scores and labels.
template <typename Label, typename Watch>
at::Tensor LabelsOf(const v1::Recipe& recipe, const v1::DecodeStep& step, const TensorScores& scores,
                    const std::array<std::int64_t, 3>& size, at::Device device, const Watch& watch) {
  const at::Tensor labels =
      at::empty(size, at::TensorOptions(compute::on_device::kLabelType<Label>).device(device));
  const auto paints =
      step.has_threshold() ? PaintsOf<Label>(recipe, step.threshold()) : std::vector<compute::Paint<Label>>();
  const auto above = static_cast<float>(step.threshold().above());
  const at::Tensor values = ValuesOfChannels(recipe, labels);
  scores.ForSlices([&](std::int64_t first, const at::Tensor& of_slices) {
    const at::Tensor out = labels.narrow(0, first, of_slices.size(1));
    if (step.has_arg_max()) {
      compute::on_device::ArgMaxLabels(of_slices, out);
      if (values.defined()) {
        out.copy_(values.index_select(0, out.to(at::kLong).flatten()).view(out.sizes()));
      }
    } else {
      compute::on_device::ThresholdLabels<Label>(of_slices, above, paints, out);
    }
    watch(first, of_slices, out);
  });
  return labels;
}

// Carries out what comes before the step that makes labels; gives that step.
absl::StatusOr<v1::DecodeStep> ToLabelStep(const v1::Recipe& recipe, const compute::GridMap& to_volume,
                                           TensorScores& scores, const compute::Parallel& parallel) {
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    if (step.has_arg_max() || step.has_threshold()) return step;
    if (step.has_activation()) scores.Activate(step.activation());
    if (step.has_to_volume_grid()) scores.ToVolumeGrid(to_volume, step.to_volume_grid().interpolation());
  }
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", "decode", "no step makes labels");
}

std::array<std::int64_t, 3> SizeOf(const RunPlan& plan, const TensorScores& scores) {
  if (!scores.on_volume_grid()) return compute::MemorySize(plan.grid);
  const std::array<std::uint32_t, 3>& size_ijk = plan.cropped.size_ijk();
  return {size_ijk[2], size_ijk[1], size_ijk[0]};
}

}  // namespace

template <typename Label>
absl::StatusOr<DeviceLabels> DecodeOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                            const compute::GridMap& to_volume, const at::Tensor& region,
                                            at::Device device, TensorScores& scores,
                                            const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  TS_ASSIGN_OR_RETURN(const v1::DecodeStep step, ToLabelStep(recipe, to_volume, scores, parallel));
  at::Tensor labels = LabelsOf<Label>(recipe, step, scores, SizeOf(plan, scores), device,
                                      [](std::int64_t, const at::Tensor&, const at::Tensor&) {});
  return ChangeLabelsOnDevice<Label>(recipe, to_volume, region, std::move(labels), scores, parallel);
}

absl::StatusOr<TensorLabels> MakeLabelsOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                                const compute::GridMap& to_volume, at::Device device,
                                                TensorScores& scores, const compute::Parallel& parallel) {
  TS_ASSIGN_OR_RETURN(const v1::DecodeStep step, ToLabelStep(recipe, to_volume, scores, parallel));
  const std::array<std::int64_t, 3> size = SizeOf(plan, scores);
  const std::vector<std::vector<std::int64_t>> channels_of = ChannelsOfMadeLabels(recipe);
  TensorLabels made;
  if (!recipe.findings().empty()) {
    made.scores = at::zeros(size, at::TensorOptions(at::kFloat).device(device));
  }
  made.labels = LabelsOf<std::uint16_t>(
      recipe, step, scores, size, device,
      [&](std::int64_t first, const at::Tensor& of_slices, const at::Tensor& labels) {
        if (!made.scores.defined()) return;
        at::Tensor own = made.scores.narrow(0, first, labels.size(0));
        for (std::size_t label = 1; label < channels_of.size(); ++label) {
          if (channels_of[label].empty()) continue;
          const at::Tensor highest =
              channels_of[label].size() == 1
                  ? of_slices.select(0, channels_of[label][0])
                  : of_slices.index_select(0, at::tensor(channels_of[label]).to(device)).amax(0);
          own.copy_(at::where(labels.eq(static_cast<std::int16_t>(label)), highest, own));
        }
      });
  return made;
}

template <typename Label>
absl::StatusOr<DeviceLabels> ChangeLabelsOnDevice(const v1::Recipe& recipe, const compute::GridMap& to_volume,
                                                  const at::Tensor& region, at::Tensor labels,
                                                  TensorScores& scores, const compute::Parallel& parallel) {
  at::Tensor model;
  bool made = false;
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    if (!made) {
      made = step.has_arg_max() || step.has_threshold();
      continue;
    }
    switch (step.step_case()) {
      case v1::DecodeStep::kToVolumeGrid:
        if (FindsOnModelGrid(recipe)) model = labels;
        labels =
            compute::on_device::TensorMap(to_volume, step.to_volume_grid().interpolation(), labels.device())
                .ReadAll(labels);
        scores.ToVolumeGrid(to_volume, v1::INTERPOLATION_NEAREST);
        break;
      case v1::DecodeStep::kKeepLargest:
        TS_RETURN_IF_ERROR(compute::on_device::KeepLargestComponents(labels, step.keep_largest().label(),
                                                                     step.keep_largest().count(), parallel));
        break;
      case v1::DecodeStep::kFillHoles:
        TS_RETURN_IF_ERROR(compute::on_device::FillHoles(labels, step.fill_holes().label(), parallel));
        break;
      case v1::DecodeStep::kMergeLabels: {
        const auto& from = step.merge_labels().from();
        compute::on_device::MergeLabels<Label>(labels, {from.data(), static_cast<std::size_t>(from.size())},
                                               step.merge_labels().into());
        break;
      }
      case v1::DecodeStep::kKeepInRegion:
        TS_RETURN_IF_ERROR(compute::on_device::KeepInRegion(
            labels, region, step.keep_in_region().whole_components(), parallel));
        break;
      default:
        break;  // CheckDecode has refused it
    }
  }
  return DeviceLabels{std::move(labels), std::move(model)};
}

template absl::StatusOr<DeviceLabels> DecodeOnDevice<std::uint8_t>(const v1::Recipe&, const RunPlan&,
                                                                   const compute::GridMap&, const at::Tensor&,
                                                                   at::Device, TensorScores&,
                                                                   const compute::Parallel&);
template absl::StatusOr<DeviceLabels> DecodeOnDevice<std::uint16_t>(const v1::Recipe&, const RunPlan&,
                                                                    const compute::GridMap&,
                                                                    const at::Tensor&, at::Device,
                                                                    TensorScores&, const compute::Parallel&);

template absl::StatusOr<DeviceLabels> ChangeLabelsOnDevice<std::uint8_t>(const v1::Recipe&,
                                                                         const compute::GridMap&,
                                                                         const at::Tensor&, at::Tensor,
                                                                         TensorScores&,
                                                                         const compute::Parallel&);
template absl::StatusOr<DeviceLabels> ChangeLabelsOnDevice<std::uint16_t>(const v1::Recipe&,
                                                                          const compute::GridMap&,
                                                                          const at::Tensor&, at::Tensor,
                                                                          TensorScores&,
                                                                          const compute::Parallel&);

}  // namespace tomoserve::pipeline
