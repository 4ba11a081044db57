// Recipes whose network detects boxes.
#include <cstdint>

#include "models/recipe_checks.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

constexpr double kMaxAnchor = 1024;  // voxels, and factor
constexpr int kMaxLevels = 16;
constexpr int kMaxAnchors = 64;
constexpr std::uint32_t kMaxCandidates = 10000;
constexpr std::uint32_t kMaxBoxes = 1000;

absl::Status CheckTriple(const std::string& path,
                         const google::protobuf::RepeatedField<std::uint32_t>& values) {
  if (values.size() != 3) return Invalid(path, "three values are required");
  for (const std::uint32_t value : values) {
    if (value < 1 || value > 1024) return Invalid(path, "each is from 1 to 1024");
  }
  return absl::OkStatus();
}

// Windows and padded volumes are whole numbers of cells at every level.
absl::Status CheckCells(const v1::Recipe& recipe, const std::string& path, const v1::DetectBoxes& step) {
  for (int axis = 0; axis < 3; ++axis) {
    const std::uint32_t size = axis < recipe.windows().size_size() ? recipe.windows().size(axis) : 0;
    const std::uint32_t padded = step.pad_to_multiple_of().empty() ? 1 : step.pad_to_multiple_of(axis);
    for (int i = 0; i < step.levels_size(); ++i) {
      const std::uint32_t stride = step.levels(i).stride(axis);
      const std::string levels = Path(absl::StrCat(path, ".levels"), i, "stride");
      if (size < 1 || size % stride != 0) {
        return Invalid("windows.size",
                       absl::StrCat(size, " is no multiple of ", stride, ", which is in ", levels));
      }
      if (padded % stride != 0) {
        return Invalid(absl::StrCat(path, ".pad_to_multiple_of"),
                       absl::StrCat(padded, " is no multiple of ", stride, ", which is in ", levels));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status CheckFindingsOfDetector(const v1::Recipe& recipe) {
  for (int i = 0; i < recipe.findings_size(); ++i) {
    if (!recipe.findings(i).each_component()) {
      return Invalid(Path("findings", i, "each_component"), "each box of a detector is a finding");
    }
    if (recipe.findings(i).score() == v1::SCORE_RULE_MEAN) {
      return Invalid(Path("findings", i, "score"), "a box has one score");
    }
  }
  return absl::OkStatus();
}

}  // namespace

const v1::DetectBoxes* DetectorOf(const v1::Recipe& recipe) {
  const bool detects = recipe.decode_size() > 0 && recipe.decode(0).has_detect_boxes();
  return detects ? &recipe.decode(0).detect_boxes() : nullptr;
}

absl::Status CheckNetworkOfDetector(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  if (network.spatial_dims() != 3) return Invalid("network.spatial_dims", "a detector has 3");
  if (network.axes() != v1::TENSOR_AXES_XYZ) {
    return Invalid("network.axes", "a detector's maps and boxes are in the order XYZ");
  }
  if (!network.mirror_axes().empty()) {
    return Invalid("network.mirror_axes", "a detector's boxes cannot be mirrored back");
  }
  const v1::Windows& windows = recipe.windows();
  if (windows.layout() != v1::WINDOW_LAYOUT_MONAI) {
    return Invalid("windows.layout", "a detector's windows are MONAI's");
  }
  if (windows.blend() == v1::BLEND_GAUSSIAN) {
    return Invalid("windows.blend", "a detector's windows count the same");
  }
  if (windows.padding_mode() == v1::PADDING_MODE_REPLICATE || windows.padding_value() != 0) {
    return Invalid("windows.padding_mode", "a detector's volume is padded with zeros");
  }
  return absl::OkStatus();
}

absl::Status CheckDetectBoxes(const v1::Recipe& recipe, const std::string& path,
                              const v1::DetectBoxes& step) {
  if (recipe.decode_size() != 1) return Invalid(path, "takes the place of every other step");
  const auto at = [&path](std::string_view field) { return absl::StrCat(path, ".", base::ToAbsl(field)); };
  if (step.levels_size() < 1 || step.levels_size() > kMaxLevels) {
    return Invalid(at("levels"), absl::StrCat("from 1 to ", kMaxLevels));
  }
  for (int i = 0; i < step.levels_size(); ++i) {
    TS_RETURN_IF_ERROR(CheckTriple(Path(at("levels"), i, "stride"), step.levels(i).stride()));
    if (!(step.levels(i).anchor_scale() > 0 && step.levels(i).anchor_scale() <= kMaxAnchor)) {
      return Invalid(Path(at("levels"), i, "anchor_scale"), absl::StrCat("above 0, at most ", kMaxAnchor));
    }
  }
  if (step.anchors_size() < 1 || step.anchors_size() > kMaxAnchors) {
    return Invalid(at("anchors"), absl::StrCat("from 1 to ", kMaxAnchors));
  }
  for (int i = 0; i < step.anchors_size(); ++i) {
    if (step.anchors(i).size_size() != 3)
      return Invalid(Path(at("anchors"), i, "size"), "three values are required");
    for (const double size : step.anchors(i).size()) {
      if (!(size > 0 && size <= kMaxAnchor)) {
        return Invalid(Path(at("anchors"), i, "size"), absl::StrCat("each is above 0, at most ", kMaxAnchor));
      }
    }
  }
  if (step.anchor_centre() == v1::ANCHOR_CENTRE_UNSPECIFIED)
    return Invalid(at("anchor_centre"), "is required");
  if (step.score_above() < 0 || step.score_above() >= 1)
    return Invalid(at("score_above"), "0 <= score_above < 1");
  if (step.candidates_per_level() < 1 || step.candidates_per_level() > kMaxCandidates) {
    return Invalid(at("candidates_per_level"), absl::StrCat("from 1 to ", kMaxCandidates));
  }
  if (step.suppress_iou_above() < 0 || step.suppress_iou_above() > 1) {
    return Invalid(at("suppress_iou_above"), "from 0 to 1");
  }
  if (step.max_boxes() < 1 || step.max_boxes() > kMaxBoxes) {
    return Invalid(at("max_boxes"), absl::StrCat("from 1 to ", kMaxBoxes));
  }
  if (!step.pad_to_multiple_of().empty()) {
    TS_RETURN_IF_ERROR(CheckTriple(at("pad_to_multiple_of"), step.pad_to_multiple_of()));
  }
  if (static_cast<std::uint32_t>(recipe.labels_size()) != recipe.network().output_channels()) {
    return Invalid("labels", "one entry for each class (network.output_channels) is required");
  }
  TS_RETURN_IF_ERROR(CheckNetworkOfDetector(recipe));
  TS_RETURN_IF_ERROR(CheckCells(recipe, path, step));
  std::uint64_t of_window = 1;
  for (const std::uint32_t size : recipe.windows().size()) of_window *= size;
  if (step.whole_below_voxels() > of_window) {
    return Invalid(at("whole_below_voxels"), absl::StrCat("at most a window's, ", of_window));
  }
  return CheckFindingsOfDetector(recipe);
}

}  // namespace tomoserve::models
