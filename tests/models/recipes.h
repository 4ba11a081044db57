// Recipes for tests, and where they lie.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tomoserve/models/recipe.h"

namespace tomoserve::models {

inline std::string ReadText(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

inline std::filesystem::path SourceFolder() { return TOMOSERVE_SOURCE_DIR; }

// A valid recipe that names every part: windows on a grid, two output channels, arg-max.
inline constexpr char kValidRecipe[] = R"(
title: "Blobs"
card {
  intended_use: "Tests."
  regulatory_status: REGULATORY_STATUS_RESEARCH
  author: "Nobody"
  license: "Apache-2.0"
  source: "Formula"
  limitations: "Finds nothing."
}
inputs {
  name: "ct"
  modalities: "CT"
  required_image_types: "ORIGINAL"
  excluded_image_types: "LOCALIZER"
  slice_spacing_mm { max: 3 }
  slices { min: 10 max: 3000 }
}
preparation {
  orientation: "RAS"
  spacing { spacing_mm: [1.5, 1.5, 2] rule: SPACING_RULE_MONAI interpolation: INTERPOLATION_LINEAR }
  intensity { scale_range { from_min: -57 from_max: 164 to_min: 0 to_max: 1 clip: true } }
}
windows { layout: WINDOW_LAYOUT_MONAI size: [96, 96, 64] overlap: 0.5 blend: BLEND_GAUSSIAN }
network { files: "model.ts" spatial_dims: 3 axes: TENSOR_AXES_XYZ input_channels: 1 output_channels: 2 }
decode { activation: ACTIVATION_SOFTMAX }
decode { to_volume_grid { interpolation: INTERPOLATION_LINEAR } }
decode { arg_max {} }
decode { keep_largest { label: 1 count: 2 } }
labels {
  value: 1
  name: "blob"
  type { value: "27925004" scheme: "SCT" meaning: "Nodule" }
  category { value: "49755003" scheme: "SCT" meaning: "Morphologically Abnormal Structure" }
  rgb: 0xFF0000
}
findings { label: 1 each_component: true min_longest_diameter_mm: 4 }
flags { label: 1 level: FLAG_LEVEL_ATTENTION longest_diameter_mm { min: 6 } }
coverage { lung_inside { min_volume_ml: 1000 margin_mm: 5 } }
)";

// A valid slice-wise recipe: slabs of 8 slices, one channel, threshold.
inline constexpr char kSliceRecipe[] = R"(
title: "Slabs"
card {
  intended_use: "Tests."
  regulatory_status: REGULATORY_STATUS_RESEARCH
  author: "Nobody"
  license: "Apache-2.0"
  source: "Formula"
}
inputs { name: "ct" modalities: "CT" }
preparation { intensity { clip { min: -1024 max: 3071 } } intensity { affine { scale: 1 shift: 1024 } } }
windows {
  layout: WINDOW_LAYOUT_SLICES
  padding_mode: PADDING_MODE_REPLICATE
  xy_multiple_of: 4
  context { before: 4 after: 3 }
}
network { files: "model.ts" spatial_dims: 3 axes: TENSOR_AXES_ZYX input_channels: 1 output_channels: 1 }
decode { activation: ACTIVATION_NONE }
decode { threshold { above: 0.5 } }
decode { to_volume_grid { interpolation: INTERPOLATION_NEAREST } }
labels {
  value: 7
  name: "slab"
  type { value: "27925004" scheme: "SCT" meaning: "Nodule" }
  category { value: "49755003" scheme: "SCT" meaning: "Morphologically Abnormal Structure" }
}
findings { label: 7 }
flags { label: 7 level: FLAG_LEVEL_INFO }
coverage { label_inside { label: 7 min_volume_ml: 1000 margin_mm: 5 } }
)";

}  // namespace tomoserve::models
