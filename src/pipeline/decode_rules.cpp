#include "pipeline/decode_rules.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <set>
#include <string>

#include "tomoserve/base/status.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"

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

absl::Status CheckInterpolation(v1::Interpolation interpolation, int step) {
  if (interpolation == v1::INTERPOLATION_NEAREST || interpolation == v1::INTERPOLATION_LINEAR) {
    return absl::OkStatus();
  }
  return Unsupported(step, "only NEAREST and LINEAR are supported yet");
}

absl::Status CheckMergeLabels(const v1::MergeLabels& merge, bool labelled, int step) {
  if (!labelled) return Invalid(step, "merge_labels works on labels");
  const std::set<std::uint32_t> from(merge.from().begin(), merge.from().end());
  const bool each_once = static_cast<int>(from.size()) == merge.from_size();
  if (from.empty() || !each_once || from.contains(0) || from.contains(merge.into()) || merge.into() == 0) {
    return Invalid(step, "merge_labels names labels, each once, and another one that they become");
  }
  return absl::OkStatus();
}

absl::Status CheckObjects(const v1::Recipe& recipe) {
  for (int r = 0; r < recipe.findings_size(); ++r) {
    const v1::FindingRule& rule = recipe.findings(r);
    if (!rule.on_model_grid() || models::IsWholeOnModelGrid(recipe, rule.label())) continue;
    return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID",
                       "findings[" + std::to_string(r) + "].on_model_grid",
                       "a step on the volume's grid changes the label");
  }
  return absl::OkStatus();
}

// The labels that have become `label` after all merges, as they are made.
std::vector<std::uint32_t> MadeAs(const v1::Recipe& recipe, std::uint32_t label) {
  std::vector<std::uint32_t> made{label};
  const auto in = [](const auto& values) {
    return [&values](std::uint32_t value) {
      return std::find(values.begin(), values.end(), value) != values.end();
    };
  };
  for (auto step = recipe.decode().rbegin(); step != recipe.decode().rend(); ++step) {
    const auto& from = step->merge_labels().from();
    std::erase_if(made, in(from));  // after the step nothing has them
    if (in(made)(step->merge_labels().into())) made.insert(made.end(), from.begin(), from.end());
  }
  return made;
}

std::optional<std::int64_t> ChannelOfNetwork(const v1::Recipe& recipe, const v1::DecodeStep& step,
                                             std::uint32_t label) {
  if (step.has_arg_max()) {
    if (label == 0 || label >= recipe.network().output_channels()) return std::nullopt;
    return label;
  }
  std::optional<std::int64_t> last;
  for (const std::uint32_t channel : PaintOrder(recipe, step.threshold())) {
    if (recipe.labels(static_cast<int>(channel)).value() == label) last = channel;
  }
  return last;
}

std::optional<std::int64_t> ChannelOfPart(const v1::Recipe& recipe, std::size_t part,
                                          const v1::DecodeStep& step, std::uint32_t label) {
  const auto& labels = recipe.network().parts(static_cast<int>(part)).labels();
  const auto known = std::find(labels.begin(), labels.end(), label);
  if (known == labels.end()) return std::nullopt;
  return known - labels.begin() + (step.has_arg_max() ? 1 : 0);
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
        TS_RETURN_IF_ERROR(CheckInterpolation(step.to_volume_grid().interpolation(), s));
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
      case v1::DecodeStep::kFillHoles:
        if (!labelled) return Invalid(s, "fill_holes works on labels");
        break;
      case v1::DecodeStep::kMergeLabels:
        TS_RETURN_IF_ERROR(CheckMergeLabels(step.merge_labels(), labelled, s));
        break;
      case v1::DecodeStep::kKeepInRegion:
        if (!labelled || !on_volume_grid) {
          return Invalid(s, "keep_in_region works on labels in the volume's own grid");
        }
        if (!recipe.has_region()) return Invalid(s, "keep_in_region needs the recipe's region");
        break;
      case v1::DecodeStep::STEP_NOT_SET:
        return Invalid(s, "the step is empty");
      case v1::DecodeStep::kDetectBoxes:
        return Invalid(s, "boxes take the place of every other step");
    }
  }
  if (!labelled) return Invalid(recipe.decode_size(), "no step makes labels (arg_max or threshold)");
  if (!on_volume_grid) return Invalid(recipe.decode_size(), "to_volume_grid is missing");
  return CheckObjects(recipe);
}

bool FindsOnModelGrid(const v1::Recipe& recipe) {
  return std::any_of(recipe.findings().begin(), recipe.findings().end(),
                     [](const v1::FindingRule& rule) { return rule.on_model_grid(); });
}

bool MakesLabelsOnVolumeGrid(const v1::Recipe& recipe) {
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_to_volume_grid()) return true;
    if (step.has_arg_max() || step.has_threshold()) return false;
  }
  return false;
}

std::uint32_t ArgMaxLabel(const v1::Recipe& recipe, std::uint32_t channel) {
  if (!models::IsComposite(recipe)) return channel;
  return recipe.network().parts(0).labels(static_cast<int>(channel) - 1);
}

std::vector<std::int64_t> ScoreChannelsOf(const v1::Recipe& recipe, std::uint32_t label) {
  const auto step =
      std::find_if(recipe.decode().begin(), recipe.decode().end(),
                   [](const v1::DecodeStep& known) { return known.has_arg_max() || known.has_threshold(); });
  if (step == recipe.decode().end()) return {};
  const std::vector<std::uint32_t> made = MadeAs(recipe, label);
  for (std::size_t part = 0; part < models::NetworkCount(recipe); ++part) {
    std::vector<std::int64_t> channels;
    for (const std::uint32_t one : made) {
      const std::optional<std::int64_t> channel = models::IsComposite(recipe)
                                                      ? ChannelOfPart(recipe, part, *step, one)
                                                      : ChannelOfNetwork(recipe, *step, one);
      if (channel) channels.push_back(*channel);
    }
    if (!channels.empty()) return channels;
  }
  return {};
}

bool KeepsInRegion(const v1::Recipe& recipe) {
  return std::any_of(recipe.decode().begin(), recipe.decode().end(),
                     [](const v1::DecodeStep& step) { return step.has_keep_in_region(); });
}

bool SumsInHalf(const v1::Recipe& recipe) { return recipe.windows().layout() == v1::WINDOW_LAYOUT_NNUNET; }

absl::Status SumsNotFinite() {
  return base::Error(absl::StatusCode::kInternal, "NOT_FINITE", "sums",
                     "the sums of the network's outputs are too large for nnU-Net's float16");
}

template <typename Label>
std::vector<compute::Paint<Label>> PaintsOf(const v1::Recipe& recipe, const v1::Threshold& threshold) {
  std::vector<compute::Paint<Label>> paints;
  for (const std::uint32_t channel : PaintOrder(recipe, threshold)) {
    paints.push_back({channel, static_cast<Label>(recipe.labels(static_cast<int>(channel)).value())});
  }
  return paints;
}

template <typename Label>
absl::Status CheckLabelValues(const v1::Recipe& recipe) {
  std::uint32_t largest = 0;
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_arg_max() && !models::IsComposite(recipe)) {
      largest = std::max(largest, recipe.network().output_channels() - 1);
    }
  }
  for (const v1::Label& label : recipe.labels()) largest = std::max(largest, label.value());
  if (largest <= std::numeric_limits<Label>::max()) return absl::OkStatus();
  return base::Error(absl::StatusCode::kInvalidArgument, "LABEL_MAP_SIZE", std::to_string(largest),
                     "the label map's voxels are too small for the label values");
}

template std::vector<compute::Paint<std::uint8_t>> PaintsOf<std::uint8_t>(const v1::Recipe&,
                                                                          const v1::Threshold&);
template std::vector<compute::Paint<std::uint16_t>> PaintsOf<std::uint16_t>(const v1::Recipe&,
                                                                            const v1::Threshold&);
template absl::Status CheckLabelValues<std::uint8_t>(const v1::Recipe&);
template absl::Status CheckLabelValues<std::uint16_t>(const v1::Recipe&);

}  // namespace tomoserve::pipeline
