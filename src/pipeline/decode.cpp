#include "pipeline/decode.h"

#include <algorithm>
#include <array>
#include <vector>

#include "pipeline/decode_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/region.h"

namespace tomoserve::pipeline {
namespace {

// Sets what arg-max or threshold gives for slices of scores [C][slice].
template <typename Label>
class Labeller {
 public:
  Labeller(const v1::Recipe& recipe, const v1::DecodeStep& step)
      : channels_(recipe.network().output_channels()), arg_max_(step.has_arg_max()) {
    if (arg_max_) return;
    above_ = static_cast<float>(step.threshold().above());
    paints_ = PaintsOf<Label>(recipe, step.threshold());
  }

  void Apply(std::span<const float> scores, std::int64_t channel_stride, std::span<Label> labels) const {
    if (arg_max_) {
      compute::ArgMaxLabels<Label>(scores, channels_, channel_stride, labels);
    } else {
      compute::ThresholdLabels<Label>(scores, channel_stride, above_, paints_, labels);
    }
  }

 private:
  std::int64_t channels_;
  bool arg_max_;
  float above_ = 0;
  std::vector<compute::Paint<Label>> paints_;
};

template <typename Label>
absl::Status LabelModelGrid(const Labeller<Label>& labeller, const ScoreField& scores,
                            const std::array<std::int64_t, 3>& size, std::span<Label> labels,
                            const compute::Parallel& parallel) {
  const std::int64_t slice_size = size[1] * size[2];
  return compute::ParallelFor(parallel, size[0], [&](std::int64_t slice, int) {
    const auto begin = static_cast<std::size_t>(slice * slice_size);
    labeller.Apply(scores.all().subspan(begin), size[0] * slice_size,
                   labels.subspan(begin, static_cast<std::size_t>(slice_size)));
  });
}

// Slice by slice, so that resampled scores never exist as a whole.
template <typename Label>
absl::Status LabelVolumeGrid(const Labeller<Label>& labeller, const ScoreField& scores,
                             const std::array<std::int64_t, 3>& size, std::span<Label> labels,
                             const compute::Parallel& parallel) {
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
    labeller.Apply(
        workspace.slice, slice_size,
        labels.subspan(static_cast<std::size_t>(k * slice_size), static_cast<std::size_t>(slice_size)));
  });
}

}  // namespace

template <typename Label>
absl::Status DecodeLabels(const v1::Recipe& recipe, const RunPlan& plan, const compute::GridMap& to_volume,
                          const at::Tensor& region, ScoreField& scores, std::span<Label> labels,
                          const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  const std::array<std::uint32_t, 3>& size_ijk = plan.cropped.size_ijk();
  const std::array<std::int64_t, 3> volume_size{size_ijk[2], size_ijk[1], size_ijk[0]};
  const std::array<std::int64_t, 3> model_size = compute::MemorySize(plan.grid);
  std::vector<Label> model_labels;  // empty once, or as long as, labels are on the volume's grid
  const auto now = [&] {
    return model_labels.empty() ? compute::LabelGrid<Label>{labels, volume_size}
                                : compute::LabelGrid<Label>{model_labels, model_size};
  };
  for (const v1::DecodeStep& step : recipe.decode()) {
    TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
    switch (step.step_case()) {
      case v1::DecodeStep::kActivation:
        TS_RETURN_IF_ERROR(scores.Activate(step.activation(), parallel));
        break;
      case v1::DecodeStep::kToVolumeGrid:
        if (model_labels.empty()) {
          scores.ToVolumeGrid(to_volume, step.to_volume_grid().interpolation());
          break;
        }
        TS_RETURN_IF_ERROR(compute::ResampleLabels<Label>(model_labels, to_volume, labels, parallel));
        model_labels = {};
        scores.ToVolumeGrid(to_volume, v1::INTERPOLATION_NEAREST);
        break;
      case v1::DecodeStep::kArgMax:
      case v1::DecodeStep::kThreshold: {
        const Labeller<Label> labeller(recipe, step);
        if (scores.on_volume_grid()) {
          TS_RETURN_IF_ERROR(LabelVolumeGrid<Label>(labeller, scores, volume_size, labels, parallel));
        } else {
          model_labels.resize(static_cast<std::size_t>(model_size[0] * model_size[1] * model_size[2]));
          TS_RETURN_IF_ERROR(LabelModelGrid<Label>(labeller, scores, model_size, model_labels, parallel));
        }
        break;
      }
      case v1::DecodeStep::kKeepLargest:
        TS_RETURN_IF_ERROR(compute::KeepLargestComponents<Label>(now(), step.keep_largest().label(),
                                                                 step.keep_largest().count(), parallel));
        break;
      case v1::DecodeStep::kFillHoles:
        TS_RETURN_IF_ERROR(compute::FillHoles<Label>(now(), step.fill_holes().label(), parallel));
        break;
      case v1::DecodeStep::kMergeLabels: {
        const auto& from = step.merge_labels().from();
        TS_RETURN_IF_ERROR(compute::MergeLabels<Label>(now().voxels,
                                                       {from.data(), static_cast<std::size_t>(from.size())},
                                                       step.merge_labels().into(), parallel));
        break;
      }
      case v1::DecodeStep::kKeepInRegion:
        TS_RETURN_IF_ERROR(compute::KeepInRegion<Label>(
            {labels, volume_size},
            {region.const_data_ptr<std::uint8_t>(), static_cast<std::size_t>(region.numel())},
            step.keep_in_region().whole_components(), parallel));
        break;
      default:
        break;  // CheckDecode has refused it
    }
  }
  return absl::OkStatus();
}

template absl::Status DecodeLabels<std::uint8_t>(const v1::Recipe&, const RunPlan&, const compute::GridMap&,
                                                 const at::Tensor&, ScoreField&, std::span<std::uint8_t>,
                                                 const compute::Parallel&);
template absl::Status DecodeLabels<std::uint16_t>(const v1::Recipe&, const RunPlan&, const compute::GridMap&,
                                                  const at::Tensor&, ScoreField&, std::span<std::uint16_t>,
                                                  const compute::Parallel&);

}  // namespace tomoserve::pipeline
