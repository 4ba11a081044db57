#include "pipeline/decode.h"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"

namespace tomoserve::pipeline {
namespace {

absl::Status Invalid(int step, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID",
                     "decode[" + std::to_string(step) + "]", text);
}

absl::Status Unsupported(int step, const char* text) {
  return base::Error(absl::StatusCode::kUnimplemented, "RECIPE_UNSUPPORTED",
                     "decode[" + std::to_string(step) + "]", text);
}

// Channels in the order in which they paint.
std::vector<std::uint32_t> PaintOrder(const v1::Recipe& recipe, const v1::Threshold& threshold) {
  std::vector<std::uint32_t> order(threshold.paint_order().begin(), threshold.paint_order().end());
  if (order.empty()) {
    for (std::uint32_t channel = 0; channel < recipe.network().output_channels(); ++channel) {
      order.push_back(channel);
    }
  }
  return order;
}

absl::Status CheckThreshold(const v1::Recipe& recipe, const v1::Threshold& threshold, int step) {
  if (static_cast<std::uint32_t>(recipe.labels_size()) != recipe.network().output_channels()) {
    return Invalid(step, "a threshold needs as many labels as the network has output channels");
  }
  std::vector<std::uint32_t> order = PaintOrder(recipe, threshold);
  std::sort(order.begin(), order.end());
  const bool each_once = std::adjacent_find(order.begin(), order.end()) == order.end();
  if (!each_once || order.size() != recipe.network().output_channels() ||
      order.back() >= recipe.network().output_channels()) {
    return Invalid(step, "paint_order names each channel once");
  }
  return absl::OkStatus();
}

absl::Status CheckActivation(v1::Activation activation, bool labelled, int step) {
  if (labelled) return Invalid(step, "an activation works on scores, not on labels");
  const bool known = activation == v1::ACTIVATION_NONE || activation == v1::ACTIVATION_SIGMOID ||
                     activation == v1::ACTIVATION_SOFTMAX;
  return known ? absl::OkStatus() : Invalid(step, "the activation is not stated");
}

absl::Status CheckInterpolation(v1::Interpolation interpolation, bool labelled, int step) {
  if (interpolation == v1::INTERPOLATION_NEAREST) return absl::OkStatus();
  if (labelled) return Invalid(step, "labels are resampled with NEAREST only");
  if (interpolation == v1::INTERPOLATION_LINEAR) return absl::OkStatus();
  return Unsupported(step, "only NEAREST and LINEAR are supported yet");
}

// Sets what arg-max or threshold gives for slices of scores [C][slice].
template <typename Label>
class Labeller {
 public:
  Labeller(const v1::Recipe& recipe, const v1::DecodeStep& step)
      : channels_(recipe.network().output_channels()), arg_max_(step.has_arg_max()) {
    if (arg_max_) return;
    above_ = static_cast<float>(step.threshold().above());
    for (const std::uint32_t channel : PaintOrder(recipe, step.threshold())) {
      const std::uint32_t value = recipe.labels(static_cast<int>(channel)).value();
      paints_.push_back({channel, static_cast<Label>(value)});
    }
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

template <typename Label>
absl::Status CheckLabelValues(const v1::Recipe& recipe) {
  std::uint32_t largest = 0;
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_arg_max()) largest = std::max(largest, recipe.network().output_channels() - 1);
  }
  for (const v1::Label& label : recipe.labels()) largest = std::max(largest, label.value());
  if (largest <= std::numeric_limits<Label>::max()) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInvalidArgument, "LABEL_MAP_SIZE", std::to_string(largest),
                     "the label map's voxels are too small for the label values");
}

}  // namespace

absl::Status CheckDecode(const v1::Recipe& recipe) {
  bool labelled = false;
  bool on_volume_grid = false;
  for (int s = 0; s < recipe.decode_size(); ++s) {
    const v1::DecodeStep& step = recipe.decode(s);
    switch (step.step_case()) {
      case v1::DecodeStep::kActivation:
        TS_RETURN_IF_ERROR(CheckActivation(step.activation(), labelled, s));
        break;
      case v1::DecodeStep::kToVolumeGrid:
        if (on_volume_grid) return Invalid(s, "to_volume_grid stands twice");
        TS_RETURN_IF_ERROR(CheckInterpolation(step.to_volume_grid().interpolation(), labelled, s));
        on_volume_grid = true;
        break;
      case v1::DecodeStep::kThreshold:
        TS_RETURN_IF_ERROR(CheckThreshold(recipe, step.threshold(), s));
        [[fallthrough]];
      case v1::DecodeStep::kArgMax:
        if (labelled) return Invalid(s, "scores become labels once");
        labelled = true;
        break;
      case v1::DecodeStep::kKeepLargest:
        if (!labelled) return Invalid(s, "keep_largest works on labels");
        if (step.keep_largest().count() == 0) return Invalid(s, "keep_largest keeps at least one component");
        break;
      case v1::DecodeStep::STEP_NOT_SET:
        return Invalid(s, "the step is empty");
      default:
        return Unsupported(s, "this step is not supported yet");
    }
  }
  if (!labelled) return Invalid(recipe.decode_size(), "no step makes labels (arg_max or threshold)");
  if (!on_volume_grid) return Invalid(recipe.decode_size(), "to_volume_grid is missing");
  return absl::OkStatus();
}

std::int64_t ScoreChannelOf(const v1::Recipe& recipe, std::uint32_t label) {
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_arg_max()) return label < recipe.network().output_channels() ? std::int64_t{label} : -1;
    if (!step.has_threshold()) continue;
    std::int64_t last = -1;
    for (const std::uint32_t channel : PaintOrder(recipe, step.threshold())) {
      if (recipe.labels(static_cast<int>(channel)).value() == label) last = channel;
    }
    return last;
  }
  return -1;
}

template <typename Label>
absl::Status DecodeLabels(const v1::Recipe& recipe, const RunPlan& plan, const compute::GridMap& to_volume,
                          ScoreField& scores, std::span<Label> labels, const compute::Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(recipe));
  const std::array<std::uint32_t, 3>& size_ijk = plan.volume.size_ijk();
  const std::array<std::int64_t, 3> volume_size{size_ijk[2], size_ijk[1], size_ijk[0]};
  const std::array<std::int64_t, 3> model_size = compute::MemorySize(plan.grid);
  std::vector<Label> model_labels;  // empty once, or as long as, labels are on the volume's grid
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
      case v1::DecodeStep::kKeepLargest: {
        const auto grid = model_labels.empty() ? compute::LabelGrid<Label>{labels, volume_size}
                                               : compute::LabelGrid<Label>{model_labels, model_size};
        TS_RETURN_IF_ERROR(compute::KeepLargestComponents<Label>(grid, step.keep_largest().label(),
                                                                 step.keep_largest().count(), parallel));
        break;
      }
      default:
        break;  // CheckDecode has refused it
    }
  }
  return absl::OkStatus();
}

template absl::Status DecodeLabels<std::uint8_t>(const v1::Recipe&, const RunPlan&, const compute::GridMap&,
                                                 ScoreField&, std::span<std::uint8_t>,
                                                 const compute::Parallel&);
template absl::Status DecodeLabels<std::uint16_t>(const v1::Recipe&, const RunPlan&, const compute::GridMap&,
                                                  ScoreField&, std::span<std::uint16_t>,
                                                  const compute::Parallel&);

}  // namespace tomoserve::pipeline
