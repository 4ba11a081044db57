// Headers of invented studies.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "tomoserve/base/digest.h"
#include "tomoserve/series/study_series.h"

namespace tomoserve::series {

// An axial CT slice of one invented series: 4 rows x 6 columns, 0.5 mm between rows, 0.75 mm between columns.
inline Instance Slice(std::uint32_t index, double z) {
  Instance instance;
  instance.index = index;
  ipc::v1::InstanceHeader& h = instance.header;
  h.set_kind(ipc::v1::OBJECT_KIND_IMAGE);
  h.set_sop_class_uid("1.2.840.10008.5.1.4.1.1.2");
  h.set_modality("CT");
  h.set_study_instance_uid("1.2.3");
  h.set_series_instance_uid("1.2.3.4");
  h.set_sop_instance_uid("1.2.3.4." + std::to_string(100 + index));
  h.set_frame_of_reference_uid("1.2.3.9");
  h.set_patient_id("P1");
  h.set_has_pixels(true);
  h.set_stored_type(ipc::v1::STORED_TYPE_I16);
  h.set_rows(4);
  h.set_columns(6);
  h.set_frames(1);
  for (const double value : {10.0, 20.0, z}) h.add_image_position(value);
  for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) h.add_image_orientation(value);
  for (const double value : {0.5, 0.75}) h.add_pixel_spacing_mm(value);
  h.set_rescale_slope(1);
  h.set_rescale_intercept(-1024);
  instance.content_sha256 = base::Sha256Hex("content " + std::to_string(index));
  return instance;
}

// `count` slices from z=0 upwards.
inline std::vector<Instance> Stack(std::uint32_t count, double spacing = 2.5) {
  std::vector<Instance> stack;
  for (std::uint32_t n = 0; n < count; ++n) stack.push_back(Slice(n, spacing * n));
  return stack;
}

inline void SetPosition(Instance& instance, double x, double y, double z) {
  instance.header.set_image_position(0, x);
  instance.header.set_image_position(1, y);
  instance.header.set_image_position(2, z);
}

// The slice's identity: another SOP Instance UID and content.
inline void Rename(Instance& instance, std::uint32_t index) {
  instance.index = index;
  instance.header.set_sop_instance_uid("1.2.3.4." + std::to_string(100 + index));
  instance.content_sha256 = base::Sha256Hex("content " + std::to_string(index));
}

inline std::vector<std::string> Codes(const Volume& volume) {
  std::vector<std::string> codes;
  for (const auto& reason : volume.reasons) codes.push_back(reason.code());
  return codes;
}

inline std::string ValueOf(const Volume& volume, const std::string& code) {
  for (const auto& reason : volume.reasons) {
    if (reason.code() == code) return reason.value();
  }
  return "(no such reason)";
}

}  // namespace tomoserve::series
