#include "pipeline/detector.h"

#include "tomoserve/base/status.h"

namespace tomoserve::pipeline {
namespace {

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

}  // namespace

const v1::DetectBoxes* DetectorOf(const v1::Recipe& recipe) {
  const bool detects = recipe.decode_size() > 0 && recipe.decode(0).has_detect_boxes();
  return detects ? &recipe.decode(0).detect_boxes() : nullptr;
}

absl::Status CheckDetector(const v1::Recipe& recipe) {
  const v1::DetectBoxes& boxes = *DetectorOf(recipe);
  if (recipe.decode_size() != 1) return Invalid("decode[1]", "boxes take the place of every other step");
  const v1::Network& network = recipe.network();
  if (network.spatial_dims() != 3 || network.axes() != v1::TENSOR_AXES_XYZ) {
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
  if (static_cast<std::uint32_t>(recipe.labels_size()) != network.output_channels()) {
    return Invalid("labels", "one entry for each class (network.output_channels) is required");
  }
  if (boxes.anchors().empty()) return Invalid("decode[0].detect_boxes.anchors", "at least one is required");
  for (const v1::AnchorShape& anchor : boxes.anchors()) {
    if (anchor.size_size() != 3) return Invalid("decode[0].detect_boxes.anchors", "three sizes");
  }
  return absl::OkStatus();
}

std::vector<compute::Detection> BestBoxes(const v1::DetectBoxes& boxes, const compute::HeadMaps& maps) {
  return compute::SuppressOverlaps(maps.Candidates(), static_cast<float>(boxes.suppress_iou_above()),
                                   boxes.max_boxes());
}

}  // namespace tomoserve::pipeline
