// The decode steps: from scores to labels or boxes.
#include <cstdint>
#include <set>

#include "models/recipe_checks.h"

namespace tomoserve::models {
namespace {

// What there is between two decode steps.
struct DecodeState {
  v1::Activation activation = v1::ACTIVATION_UNSPECIFIED;
  bool labels = false;          // else scores
  bool in_volume_grid = false;  // else the prepared grid
};

absl::Status CheckActivation(const v1::Recipe& recipe, const std::string& path, v1::Activation activation,
                             DecodeState* state) {
  if (activation == v1::ACTIVATION_UNSPECIFIED) return Invalid(path, "is required");
  if (state->labels) return Invalid(path, "there are labels already, no scores");
  if (state->activation != v1::ACTIVATION_UNSPECIFIED) return Invalid(path, "scores are activated once");
  if (activation == v1::ACTIVATION_SOFTMAX && recipe.network().output_channels() < 2) {
    return Invalid(path, "softmax of one channel is always 1");
  }
  state->activation = activation;
  return absl::OkStatus();
}

absl::Status CheckToVolumeGrid(const std::string& path, const v1::ToVolumeGrid& step, DecodeState* state) {
  if (state->in_volume_grid) return Invalid(path, "stands twice");
  const std::string interpolation = absl::StrCat(path, ".interpolation");
  if (step.interpolation() == v1::INTERPOLATION_UNSPECIFIED) return Invalid(interpolation, "is required");
  if (state->labels && step.interpolation() != v1::INTERPOLATION_NEAREST) {
    return Invalid(interpolation, "labels need NEAREST");
  }
  if (step.interpolation() == v1::INTERPOLATION_CUBIC)
    return Invalid(interpolation, "scores need LINEAR or NEAREST");
  state->in_volume_grid = true;
  return absl::OkStatus();
}

absl::Status CheckArgMax(const v1::Recipe& recipe, const std::string& path, DecodeState* state) {
  if (state->labels) return Invalid(path, "there are labels already, no scores");
  if (state->activation == v1::ACTIVATION_UNSPECIFIED)
    return Invalid(path, "needs an activation step before it");
  const std::uint32_t channels = recipe.network().output_channels();
  if (channels < 2) return Invalid(path, "one channel has no highest one");
  for (std::uint32_t channel = 1; channel < channels; ++channel) {
    if (!HasLabel(recipe, channel)) {
      return Invalid("labels", absl::StrCat("arg_max gives the value ", channel, ", which has no entry"));
    }
  }
  if (static_cast<std::uint32_t>(recipe.labels_size()) != channels - 1) {
    return Invalid("labels",
                   absl::StrCat("arg_max over ", channels, " channels gives no value above ", channels - 1));
  }
  state->labels = true;
  return absl::OkStatus();
}

absl::Status CheckThreshold(const v1::Recipe& recipe, const std::string& path, const v1::Threshold& step,
                            DecodeState* state) {
  if (state->labels) return Invalid(path, "there are labels already, no scores");
  if (state->activation == v1::ACTIVATION_UNSPECIFIED)
    return Invalid(path, "needs an activation step before it");
  if (state->activation != v1::ACTIVATION_NONE && (step.above() < 0 || step.above() >= 1)) {
    return Invalid(absl::StrCat(path, ".above"),
                   "sigmoid and softmax give scores from 0 to 1: 0 <= above < 1");
  }
  const std::uint32_t channels = recipe.network().output_channels();
  if (static_cast<std::uint32_t>(recipe.labels_size()) != channels) {
    return Invalid("labels",
                   absl::StrCat("threshold needs one entry for each of the ", channels, " output channels"));
  }
  if (!step.paint_order().empty()) {
    const std::set<std::uint32_t> order(step.paint_order().begin(), step.paint_order().end());
    if (static_cast<std::uint32_t>(step.paint_order_size()) != channels || order.size() != channels ||
        *order.rbegin() >= channels) {
      return Invalid(absl::StrCat(path, ".paint_order"), "each channel exactly once, or nothing");
    }
  }
  state->labels = true;
  return absl::OkStatus();
}

absl::Status CheckKeepLargest(const v1::Recipe& recipe, const std::string& path, const v1::KeepLargest& step,
                              const DecodeState& state) {
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  TS_RETURN_IF_ERROR(CheckKnown(recipe, absl::StrCat(path, ".label"), step.label()));
  if (step.count() < 1) return Invalid(absl::StrCat(path, ".count"), "at least 1");
  return absl::OkStatus();
}

absl::Status CheckFillHoles(const v1::Recipe& recipe, const std::string& path, const v1::FillHoles& step,
                            const DecodeState& state) {
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  return CheckKnown(recipe, absl::StrCat(path, ".label"), step.label());
}

absl::Status CheckMergeLabels(const v1::Recipe& recipe, const std::string& path, const v1::MergeLabels& step,
                              const DecodeState& state) {
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  if (step.from().empty()) return Invalid(absl::StrCat(path, ".from"), "at least one label is required");
  TS_RETURN_IF_ERROR(CheckKnown(recipe, absl::StrCat(path, ".into"), step.into()));
  std::set<std::uint32_t> seen;
  for (int i = 0; i < step.from_size(); ++i) {
    const std::string from = Path(absl::StrCat(path, ".from"), i);
    TS_RETURN_IF_ERROR(CheckKnown(recipe, from, step.from(i)));
    if (step.from(i) == step.into()) return Invalid(from, "is the label that they are merged into");
    if (!seen.insert(step.from(i)).second) return Invalid(from, "stands twice");
  }
  return absl::OkStatus();
}

absl::Status CheckTriple(const std::string& path,
                         const google::protobuf::RepeatedField<std::uint32_t>& values) {
  if (values.size() != 3) return Invalid(path, "three values are required");
  for (const std::uint32_t value : values) {
    if (value < 1 || value > 1024) return Invalid(path, "each is from 1 to 1024");
  }
  return absl::OkStatus();
}

absl::Status CheckDetectBoxes(const v1::Recipe& recipe, const std::string& path,
                              const v1::DetectBoxes& step) {
  if (recipe.decode_size() != 1) return Invalid(path, "takes the place of every other step");
  const auto at = [&path](std::string_view field) { return absl::StrCat(path, ".", base::ToAbsl(field)); };
  if (step.levels().empty()) return Invalid(at("levels"), "at least one is required");
  for (int i = 0; i < step.levels_size(); ++i) {
    TS_RETURN_IF_ERROR(CheckTriple(Path(at("levels"), i, "stride"), step.levels(i).stride()));
    if (step.levels(i).anchor_scale() <= 0)
      return Invalid(Path(at("levels"), i, "anchor_scale"), "is not above 0");
  }
  if (step.anchors().empty()) return Invalid(at("anchors"), "at least one is required");
  for (int i = 0; i < step.anchors_size(); ++i) {
    if (step.anchors(i).size_size() != 3)
      return Invalid(Path(at("anchors"), i, "size"), "three values are required");
    for (const double size : step.anchors(i).size()) {
      if (size <= 0) return Invalid(Path(at("anchors"), i, "size"), "each is above 0");
    }
  }
  if (step.anchor_centre() == v1::ANCHOR_CENTRE_UNSPECIFIED)
    return Invalid(at("anchor_centre"), "is required");
  if (step.score_above() < 0 || step.score_above() >= 1)
    return Invalid(at("score_above"), "0 <= score_above < 1");
  if (step.candidates_per_level() < 1) return Invalid(at("candidates_per_level"), "at least 1");
  if (step.suppress_iou_above() < 0 || step.suppress_iou_above() > 1) {
    return Invalid(at("suppress_iou_above"), "from 0 to 1");
  }
  if (step.max_boxes() < 1) return Invalid(at("max_boxes"), "at least 1");
  if (!step.pad_to_multiple_of().empty()) {
    TS_RETURN_IF_ERROR(CheckTriple(at("pad_to_multiple_of"), step.pad_to_multiple_of()));
  }
  if (static_cast<std::uint32_t>(recipe.labels_size()) != recipe.network().output_channels()) {
    return Invalid("labels", "one entry for each class (network.output_channels) is required");
  }
  return absl::OkStatus();
}

absl::Status CheckStep(const v1::Recipe& recipe, int index, DecodeState* state) {
  const v1::DecodeStep& step = recipe.decode(index);
  const auto path = [index](std::string_view field) { return Path("decode", index, field); };
  switch (step.step_case()) {
    case v1::DecodeStep::kActivation:
      return CheckActivation(recipe, path("activation"), step.activation(), state);
    case v1::DecodeStep::kToVolumeGrid:
      return CheckToVolumeGrid(path("to_volume_grid"), step.to_volume_grid(), state);
    case v1::DecodeStep::kArgMax:
      return CheckArgMax(recipe, path("arg_max"), state);
    case v1::DecodeStep::kThreshold:
      return CheckThreshold(recipe, path("threshold"), step.threshold(), state);
    case v1::DecodeStep::kKeepLargest:
      return CheckKeepLargest(recipe, path("keep_largest"), step.keep_largest(), *state);
    case v1::DecodeStep::kDetectBoxes:
      return CheckDetectBoxes(recipe, path("detect_boxes"), step.detect_boxes());
    case v1::DecodeStep::kFillHoles:
      return CheckFillHoles(recipe, path("fill_holes"), step.fill_holes(), *state);
    case v1::DecodeStep::kMergeLabels:
      return CheckMergeLabels(recipe, path("merge_labels"), step.merge_labels(), *state);
    case v1::DecodeStep::STEP_NOT_SET:
      break;
  }
  return Invalid(Path("decode", index), "says no step");
}

}  // namespace

absl::Status CheckDecode(const v1::Recipe& recipe) {
  if (recipe.decode().empty()) return Invalid("decode", "at least one step is required");
  DecodeState state;
  for (int i = 0; i < recipe.decode_size(); ++i) TS_RETURN_IF_ERROR(CheckStep(recipe, i, &state));
  if (recipe.decode(0).has_detect_boxes()) return absl::OkStatus();
  if (!state.labels) return Invalid("decode", "no step makes labels: arg_max or threshold is required");
  if (!state.in_volume_grid) return Invalid("decode", "to_volume_grid is required");
  return absl::OkStatus();
}

}  // namespace tomoserve::models
