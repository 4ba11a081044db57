// Recipes that detect boxes.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::testing {

inline void AddLevel(v1::DetectBoxes& boxes, const std::array<std::uint32_t, 3>& stride, double scale) {
  v1::BoxLevel& level = *boxes.add_levels();
  for (const std::uint32_t voxels : stride) level.add_stride(voxels);
  level.set_anchor_scale(scale);
}

inline void AddAnchor(v1::DetectBoxes& boxes, const std::array<double, 3>& size) {
  v1::AnchorShape& shape = *boxes.add_anchors();
  for (const double voxels : size) shape.add_size(voxels);
}

inline void SetWindows(v1::Recipe& recipe, const std::array<std::uint32_t, 3>& size, double overlap) {
  v1::Windows& windows = *recipe.mutable_windows();
  windows.set_layout(v1::WINDOW_LAYOUT_MONAI);
  windows.clear_size();
  for (const std::uint32_t voxels : size) windows.add_size(voxels);
  windows.set_overlap(overlap);
}

// Network of one input volume and `classes` labels, each a rule of its own.
inline v1::Recipe DetectorBase(std::uint32_t classes) {
  v1::Recipe recipe;
  v1::Network& network = *recipe.mutable_network();
  network.add_files("model.ts");
  network.set_spatial_dims(3);
  network.set_axes(v1::TENSOR_AXES_XYZ);
  network.set_input_channels(1);
  network.set_output_channels(classes);
  for (std::uint32_t value = 1; value <= classes; ++value) {
    v1::Label& label = *recipe.add_labels();
    label.set_value(value);
    label.set_name("class " + std::to_string(value));
    v1::FindingRule& rule = *recipe.add_findings();
    rule.set_label(value);
    rule.set_each_component(true);
  }
  recipe.mutable_coverage()->mutable_not_needed()->set_because("test");
  return recipe;
}

// MONAI's lung_nodule_ct_detection.
inline v1::Recipe LungNoduleDetector(v1::AnchorCentre centre) {
  v1::Recipe recipe = DetectorBase(1);
  v1::Preparation& preparation = *recipe.mutable_preparation();
  preparation.set_orientation("RAS");
  for (const double mm : {0.703125, 0.703125, 1.25}) preparation.mutable_spacing()->add_spacing_mm(mm);
  preparation.mutable_spacing()->set_rule(v1::SPACING_RULE_MONAI);
  preparation.mutable_spacing()->set_interpolation(v1::INTERPOLATION_LINEAR);
  v1::ScaleRange& range = *preparation.add_intensity()->mutable_scale_range();
  range.set_from_min(-1024);
  range.set_from_max(300);
  range.set_to_max(1);
  range.set_clip(true);
  SetWindows(recipe, {512, 512, 192}, 0.25);
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  AddLevel(boxes, {4, 4, 2}, 1);
  AddLevel(boxes, {8, 8, 4}, 2);
  AddLevel(boxes, {16, 16, 8}, 4);
  AddAnchor(boxes, {6, 8, 4});
  AddAnchor(boxes, {8, 6, 5});
  AddAnchor(boxes, {10, 10, 6});
  boxes.set_anchor_centre(centre);
  boxes.set_score_above(0.02);
  boxes.set_candidates_per_level(1000);
  boxes.set_suppress_iou_above(0.22);
  boxes.set_max_boxes(300);
  for (const std::uint32_t multiple : {16, 16, 8}) boxes.add_pad_to_multiple_of(multiple);
  boxes.set_whole_below_voxels(50331648);
  recipe.mutable_findings(0)->set_max_findings(300);
  return recipe;
}

// One level of stride 4, one anchor of 8 voxels, windows of 16 voxels, on the volume's own grid.
inline v1::Recipe SmallDetector(std::uint32_t classes = 1) {
  v1::Recipe recipe = DetectorBase(classes);
  SetWindows(recipe, {16, 16, 16}, 0.5);
  v1::DetectBoxes& boxes = *recipe.add_decode()->mutable_detect_boxes();
  AddLevel(boxes, {4, 4, 4}, 1);
  AddAnchor(boxes, {8, 8, 8});
  boxes.set_anchor_centre(v1::ANCHOR_CENTRE_CELL_START);
  boxes.set_score_above(0.5);
  boxes.set_candidates_per_level(100);
  boxes.set_suppress_iou_above(0.2);
  boxes.set_max_boxes(20);
  for (int axis = 0; axis < 3; ++axis) boxes.add_pad_to_multiple_of(4);
  return recipe;
}

}  // namespace tomoserve::testing
