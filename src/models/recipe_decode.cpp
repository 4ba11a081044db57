// The decode steps: from scores to labels or boxes.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include "models/recipe_checks.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

// What there is between two decode steps.
struct DecodeState {
  v1::Activation activation = v1::ACTIVATION_UNSPECIFIED;
  bool labels = false;             // else scores
  bool in_volume_grid = false;     // else the prepared grid
  std::set<std::uint32_t> merged;  // into other labels: no voxel has them any more
};

// A label that a step works on.
absl::Status CheckThere(const v1::Recipe& recipe, const std::string& path, std::uint32_t label,
                        const DecodeState& state) {
  TS_RETURN_IF_ERROR(CheckKnown(recipe, path, label));
  if (state.merged.contains(label))
    return Invalid(path, absl::StrCat(label, " was merged into another label"));
  return absl::OkStatus();
}

std::vector<std::uint32_t> OutputChannels(const v1::Recipe& recipe) {
  if (!IsComposite(recipe)) return {recipe.network().output_channels()};
  std::vector<std::uint32_t> channels;
  for (const v1::Part& part : recipe.network().parts()) channels.push_back(part.output_channels());
  return channels;
}

// Each part has a channel for each of its labels, and `others` beside them.
absl::Status CheckChannelsOfParts(const v1::Recipe& recipe, std::uint32_t others, std::string_view step) {
  for (int i = 0; i < recipe.network().parts_size(); ++i) {
    const v1::Part& part = recipe.network().parts(i);
    const std::uint32_t wanted = static_cast<std::uint32_t>(part.labels_size()) + others;
    if (part.output_channels() == wanted) continue;
    return Invalid(Path("network.parts", i, "output_channels"),
                   absl::StrCat(base::ToAbsl(step), " of ", part.labels_size(), " labels needs ", wanted));
  }
  return absl::OkStatus();
}

absl::Status CheckActivation(const v1::Recipe& recipe, const std::string& path, v1::Activation activation,
                             DecodeState* state) {
  if (activation == v1::ACTIVATION_UNSPECIFIED) return Invalid(path, "is required");
  if (state->labels) return Invalid(path, "there are labels already, no scores");
  if (state->activation != v1::ACTIVATION_UNSPECIFIED) return Invalid(path, "scores are activated once");
  for (const std::uint32_t channels : OutputChannels(recipe)) {
    if (activation == v1::ACTIVATION_SOFTMAX && channels < 2) {
      return Invalid(path, "softmax of one channel is always 1");
    }
  }
  state->activation = activation;
  return absl::OkStatus();
}

// Between two labels every value may come out.
absl::Status CheckNoGaps(const v1::Recipe& recipe, const std::string& path) {
  std::uint32_t highest = 0;
  for (const v1::Label& label : recipe.labels()) highest = std::max(highest, label.value());
  if (highest > std::numeric_limits<std::uint8_t>::max()) {
    return Invalid(path, "LINEAR between labels needs values of at most 255");
  }
  for (std::uint32_t value = 1; value < highest; ++value) {
    if (!HasLabel(recipe, value)) {
      return Invalid(path, absl::StrCat("LINEAR between labels may give ", value, ", which has no entry"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckToVolumeGrid(const v1::Recipe& recipe, const std::string& path,
                               const v1::ToVolumeGrid& step, DecodeState* state) {
  if (state->in_volume_grid) return Invalid(path, "stands twice");
  const std::string interpolation = absl::StrCat(path, ".interpolation");
  if (step.interpolation() == v1::INTERPOLATION_UNSPECIFIED) return Invalid(interpolation, "is required");
  if (step.interpolation() == v1::INTERPOLATION_CUBIC) {
    return Invalid(interpolation, "LINEAR or NEAREST is required");
  }
  if (state->labels && step.interpolation() == v1::INTERPOLATION_LINEAR) {
    if (IsComposite(recipe)) {
      return Invalid(interpolation,
                     "of a composite's labels NEAREST is required: between two lie those of other parts");
    }
    TS_RETURN_IF_ERROR(CheckNoGaps(recipe, interpolation));
  }
  state->in_volume_grid = true;
  return absl::OkStatus();
}

absl::Status CheckArgMax(const v1::Recipe& recipe, const std::string& path, DecodeState* state) {
  if (state->labels) return Invalid(path, "there are labels already, no scores");
  if (state->activation == v1::ACTIVATION_UNSPECIFIED)
    return Invalid(path, "needs an activation step before it");
  state->labels = true;
  if (IsComposite(recipe)) return CheckChannelsOfParts(recipe, 1, "arg_max");
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
  state->labels = true;
  if (IsComposite(recipe)) {
    if (!step.paint_order().empty()) {
      return Invalid(absl::StrCat(path, ".paint_order"), "the channels of a part paint in their order");
    }
    return CheckChannelsOfParts(recipe, 0, "threshold");
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
  return absl::OkStatus();
}

absl::Status CheckKeepLargest(const v1::Recipe& recipe, const std::string& path, const v1::KeepLargest& step,
                              const DecodeState& state) {
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  TS_RETURN_IF_ERROR(CheckThere(recipe, absl::StrCat(path, ".label"), step.label(), state));
  if (step.count() < 1) return Invalid(absl::StrCat(path, ".count"), "at least 1");
  return absl::OkStatus();
}

absl::Status CheckFillHoles(const v1::Recipe& recipe, const std::string& path, const v1::FillHoles& step,
                            const DecodeState& state) {
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  return CheckThere(recipe, absl::StrCat(path, ".label"), step.label(), state);
}

absl::Status CheckMergeLabels(const v1::Recipe& recipe, const std::string& path, const v1::MergeLabels& step,
                              DecodeState* state) {
  if (!state->labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  if (step.from().empty()) return Invalid(absl::StrCat(path, ".from"), "at least one label is required");
  TS_RETURN_IF_ERROR(CheckThere(recipe, absl::StrCat(path, ".into"), step.into(), *state));
  std::set<std::uint32_t> seen;
  for (int i = 0; i < step.from_size(); ++i) {
    const std::string from = Path(absl::StrCat(path, ".from"), i);
    TS_RETURN_IF_ERROR(CheckThere(recipe, from, step.from(i), *state));
    if (step.from(i) == step.into()) return Invalid(from, "is the label that they are merged into");
    if (!seen.insert(step.from(i)).second) return Invalid(from, "stands twice");
  }
  state->merged.merge(seen);
  return absl::OkStatus();
}

// The region's label map lies on the volume's own grid.
absl::Status CheckKeepInRegion(const v1::Recipe& recipe, const std::string& path, const DecodeState& state) {
  if (!recipe.has_region()) return Invalid(path, "the recipe has no region");
  if (!state.labels) return Invalid(path, "there are no labels yet: arg_max or threshold comes first");
  if (!state.in_volume_grid) {
    return Invalid(path, "the region lies on the volume's grid: to_volume_grid comes first");
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
      return CheckToVolumeGrid(recipe, path("to_volume_grid"), step.to_volume_grid(), state);
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
      return CheckMergeLabels(recipe, path("merge_labels"), step.merge_labels(), state);
    case v1::DecodeStep::kKeepInRegion:
      return CheckKeepInRegion(recipe, path("keep_in_region"), *state);
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
  if (DetectorOf(recipe) != nullptr) return absl::OkStatus();
  if (!state.labels) return Invalid("decode", "no step makes labels: arg_max or threshold is required");
  if (!state.in_volume_grid) return Invalid("decode", "to_volume_grid is required");
  return absl::OkStatus();
}

}  // namespace tomoserve::models
