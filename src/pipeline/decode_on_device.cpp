#include "pipeline/decode_on_device.h"

#include <ATen/ops/empty.h>

#include <array>
#include <vector>

#include "pipeline/decode_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/components.h"
#include "tomoserve/compute/on_device/labels.h"

namespace tomoserve::pipeline {
namespace {

template <typename Label>
at::Tensor LabelsOf(const v1::Recipe& recipe, const v1::DecodeStep& step, const TensorScores& scores,
                    const std::array<std::int64_t, 3>& size, at::Device device) {
  const at::Tensor labels =
      at::empty(size, at::TensorOptions(compute::on_device::kLabelType<Label>).device(device));
  const auto paints =
      step.has_threshold() ? PaintsOf<Label>(recipe, step.threshold()) : std::vector<compute::Paint<Label>>();
  const auto above = static_cast<float>(step.threshold().above());
  scores.ForSlices([&](std::int64_t first, const at::Tensor& of_slices) {
    const at::Tensor out = labels.narrow(0, first, of_slices.size(1));
    if (step.has_arg_max()) {
      compute::on_device::ArgMaxLabels(of_slices, out);
    } else {
      compute::on_device::ThresholdLabels<Label>(of_slices, above, paints, out);
    }
  });
  return labels;
}

}  // namespace

template <typename Label>
absl::StatusOr<at::Tensor> DecodeOnDevice(const v1::Recipe& recipe, const RunPlan& plan,
                                          const compute::GridMap& to_volume, const at::Tensor& region,
                                          at::Device device, TensorScores& scores,
                                          const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  const std::array<std::uint32_t, 3>& size_ijk = plan.cropped.size_ijk();
  const std::array<std::int64_t, 3> volume_size{size_ijk[2], size_ijk[1], size_ijk[0]};
  at::Tensor labels;  // undefined until a step makes them
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    switch (step.step_case()) {
      case v1::DecodeStep::kActivation:
        scores.Activate(step.activation());
        break;
      case v1::DecodeStep::kToVolumeGrid:
        if (labels.defined()) {
          labels =
              compute::on_device::TensorMap(to_volume, v1::INTERPOLATION_NEAREST, device).ReadAll(labels);
        }
        scores.ToVolumeGrid(
            to_volume, labels.defined() ? v1::INTERPOLATION_NEAREST : step.to_volume_grid().interpolation());
        break;
      case v1::DecodeStep::kArgMax:
      case v1::DecodeStep::kThreshold:
        labels =
            LabelsOf<Label>(recipe, step, scores,
                            scores.on_volume_grid() ? volume_size : compute::MemorySize(plan.grid), device);
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
  return labels;
}

template absl::StatusOr<at::Tensor> DecodeOnDevice<std::uint8_t>(const v1::Recipe&, const RunPlan&,
                                                                 const compute::GridMap&, const at::Tensor&,
                                                                 at::Device, TensorScores&,
                                                                 const compute::Parallel&);
template absl::StatusOr<at::Tensor> DecodeOnDevice<std::uint16_t>(const v1::Recipe&, const RunPlan&,
                                                                  const compute::GridMap&, const at::Tensor&,
                                                                  at::Device, TensorScores&,
                                                                  const compute::Parallel&);

}  // namespace tomoserve::pipeline
