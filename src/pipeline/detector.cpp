#include "pipeline/detector.h"

#include "tomoserve/base/status.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::pipeline {
namespace {

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

}  // namespace

absl::Status CheckDetector(const v1::Recipe& recipe) {
  const v1::DetectBoxes& boxes = *models::DetectorOf(recipe);
  if (recipe.decode_size() != 1) return Invalid("decode[1]", "boxes take the place of every other step");
  TS_RETURN_IF_ERROR(models::CheckNetworkOfDetector(recipe));
  if (static_cast<std::uint32_t>(recipe.labels_size()) != recipe.network().output_channels()) {
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
