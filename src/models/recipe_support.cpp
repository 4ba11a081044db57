// What the schema can say and the engine does not run yet. A line goes when its feature arrives.
#include "models/recipe_checks.h"

namespace tomoserve::models {

absl::Status CheckSupported(const v1::Recipe& recipe) {
  if (recipe.inputs_size() > 1) return Unsupported("inputs", "more than one input is not supported yet");

  for (const v1::Input& input : recipe.inputs()) {
    if (input.every_time_point())
      return Unsupported("inputs[0].every_time_point", "time is not supported yet");
  }

  const v1::Preparation& preparation = recipe.preparation();
  if (preparation.has_crop()) return Unsupported("preparation.crop", "cropping is not supported yet");
  if (preparation.intensity_before_spacing()) {
    return Unsupported("preparation.intensity_before_spacing", "intensity steps run after resampling");
  }
  if (preparation.spacing().rule() == v1::SPACING_RULE_NNUNET) {
    return Unsupported("preparation.spacing.rule", "nnU-Net's resampling is not supported yet");
  }
  if (preparation.spacing().interpolation() == v1::INTERPOLATION_CUBIC) {
    return Unsupported("preparation.spacing.interpolation", "cubic resampling is not supported yet");
  }
  for (int i = 0; i < preparation.intensity_size(); ++i) {
    if (preparation.intensity(i).has_scale_percentiles()) {
      return Unsupported(Path("preparation.intensity", i, "scale_percentiles"),
                         "percentiles are not supported yet");
    }
    if (preparation.intensity(i).z_score().fill_holes()) {
      return Unsupported(Path("preparation.intensity", i, "z_score.fill_holes"),
                         "a region of non-zero voxels with its holes filled is not supported yet");
    }
  }

  if (recipe.windows().layout() == v1::WINDOW_LAYOUT_NNUNET) {
    return Unsupported("windows.layout", "nnU-Net's layout is not supported yet");
  }
  const v1::Network& network = recipe.network();
  if (network.spatial_dims() == 2 && recipe.windows().layout() != v1::WINDOW_LAYOUT_SLICES) {
    return Unsupported("network.spatial_dims", "windows within a slice are not supported yet");
  }
  if (network.axes() != v1::TENSOR_AXES_XYZ && network.axes() != v1::TENSOR_AXES_ZYX) {
    return Unsupported("network.axes", "only XYZ and ZYX are supported yet");
  }
  if (network.files_size() > 1) return Unsupported("network.files", "ensembles are not supported yet");

  for (int i = 0; i < recipe.decode_size(); ++i) {
    if (recipe.decode(i).has_detect_boxes()) {
      return Unsupported(Path("decode", i, "detect_boxes"), "detectors are not supported yet");
    }
    if (recipe.decode(i).has_fill_holes()) {
      return Unsupported(Path("decode", i, "fill_holes"), "filling holes is not supported yet");
    }
    if (recipe.decode(i).has_merge_labels()) {
      return Unsupported(Path("decode", i, "merge_labels"), "merging labels is not supported yet");
    }
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::models
