// What the schema can say and the engine does not run yet. A line goes when its feature arrives.
#include "models/recipe_checks.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

// Whether the volumes of a time series can be analysed each on its own.
absl::Status CheckTime(const v1::Recipe& recipe, int index) {
  const std::string path = Path("inputs", index, "every_time_point");
  if (recipe.inputs_size() > 1) return Unsupported(path, "with several inputs it is not supported");
  if (recipe.coverage().has_lung_inside()) {
    return Unsupported(path, "with coverage.lung_inside it is not supported");
  }
  if (recipe.has_region()) return Unsupported(path, "with a region it is not supported");
  if (DetectorOf(recipe) != nullptr) return Unsupported(path, "with detect_boxes it is not supported");
  return absl::OkStatus();
}

// Of a composite the scores of a voxel's own label are kept: a voxel that is filled has none.
absl::Status CheckStepsOfComposite(const v1::Recipe& recipe) {
  for (int i = 0; i < recipe.decode_size(); ++i) {
    if (!recipe.decode(i).has_fill_holes()) continue;
    return Unsupported(Path("decode", i, "fill_holes"), "with network.parts it is not supported");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSupported(const v1::Recipe& recipe) {
  for (int i = 0; i < recipe.inputs_size(); ++i) {
    if (recipe.inputs(i).every_time_point()) TS_RETURN_IF_ERROR(CheckTime(recipe, i));
  }
  if (IsComposite(recipe)) TS_RETURN_IF_ERROR(CheckStepsOfComposite(recipe));
  if (!recipe.plausibility().empty() && recipe.has_region()) {
    // Its labels end where the region does: what is cut off has another centre and volume.
    return Unsupported("plausibility", "with a region it is not supported");
  }
  for (int i = 0; i < recipe.findings_size(); ++i) {
    if (!recipe.has_region() || !recipe.findings(i).laterality().has_of_midplane()) continue;
    // The same: what is cut off has another middle.
    return Unsupported(Path("findings", i, "laterality.of_midplane"), "with a region it is not supported");
  }
  const v1::Preparation& preparation = recipe.preparation();
  if (preparation.spacing().interpolation() == v1::INTERPOLATION_CUBIC &&
      preparation.spacing().rule() != v1::SPACING_RULE_NNUNET) {
    return Unsupported("preparation.spacing.interpolation", "CUBIC is supported with nnU-Net's rule only");
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
