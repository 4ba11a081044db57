// Files that the fake helpers read: a header message and stored values, no DICOM.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dispatch {

inline constexpr std::string_view kFakeMagic = "FAKE";

// Magic, length of the header message, header message, pixels.
inline std::string FakeFile(const ipc::v1::InstanceHeader& header, const std::vector<std::int16_t>& pixels) {
  const std::string message = header.SerializeAsString();
  const auto length = static_cast<std::uint32_t>(message.size());
  std::string file(kFakeMagic);
  file.append(reinterpret_cast<const char*>(&length), sizeof length);
  file += message;
  file.append(reinterpret_cast<const char*>(pixels.data()), pixels.size() * sizeof(std::int16_t));
  return file;
}

struct FakeParts {
  ipc::v1::InstanceHeader header;
  std::string pixels;
};

inline std::optional<FakeParts> ReadFake(std::string_view file) {
  std::uint32_t length = 0;
  const std::size_t start = kFakeMagic.size() + sizeof length;
  if (file.size() < start || file.substr(0, kFakeMagic.size()) != kFakeMagic) return std::nullopt;
  std::memcpy(&length, file.data() + kFakeMagic.size(), sizeof length);
  if (length > file.size() - start) return std::nullopt;
  FakeParts parts;
  if (!parts.header.ParseFromString(std::string(file.substr(start, length)))) return std::nullopt;
  parts.pixels = file.substr(start + length);
  return parts;
}

// A small study: `slices` axial CT slices of 8 x 6, spacing 1 x 1 x 2.5 mm, values that grow with `seed`.
struct FakeStudy {
  std::string study_uid = "1.2.3";
  std::string series_uid = "1.2.3.4";
  std::string patient_id = "P1";
  std::string modality = "CT";
  std::uint32_t slices = 8;
  std::uint32_t rows = 8;
  std::uint32_t columns = 6;
  int seed = 1;

  ipc::v1::InstanceHeader Header(std::uint32_t k) const {
    ipc::v1::InstanceHeader h;
    h.set_kind(ipc::v1::OBJECT_KIND_IMAGE);
    h.set_sop_class_uid(modality == "MR" ? "1.2.840.10008.5.1.4.1.1.4" : "1.2.840.10008.5.1.4.1.1.2");
    h.set_modality(modality);
    h.set_study_instance_uid(study_uid);
    h.set_series_instance_uid(series_uid);
    h.set_sop_instance_uid(series_uid + "." + std::to_string(100 + k));
    h.set_frame_of_reference_uid(series_uid + ".9");
    h.set_patient_id(patient_id);
    h.set_has_pixels(true);
    h.set_stored_type(ipc::v1::STORED_TYPE_I16);
    h.set_rows(rows);
    h.set_columns(columns);
    h.set_frames(1);
    for (const double value : {10.0, 20.0, 2.5 * k}) h.add_image_position(value);
    for (const double value : {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}) h.add_image_orientation(value);
    for (const double value : {1.0, 1.0}) h.add_pixel_spacing_mm(value);
    h.set_rescale_slope(1);
    h.set_rescale_intercept(0);
    return h;
  }
  // The values of slice k: the voxel (k % columns, k % rows) and its neighbours are bright.
  std::vector<std::int16_t> Pixels(std::uint32_t k) const {
    std::vector<std::int16_t> pixels(std::size_t{rows} * columns, static_cast<std::int16_t>(-1000 + seed));
    pixels[(k % rows) * columns + k % columns] = 500;
    return pixels;
  }
  std::string File(std::uint32_t k) const { return FakeFile(Header(k), Pixels(k)); }
  // Slice k as a file that the helpers refuse with `code`; `unknown`: nothing of it can be read.
  std::string RefusedFile(std::uint32_t k, const std::string& code, bool unknown = false) const {
    ipc::v1::InstanceHeader header = Header(k);
    if (unknown) header.Clear();
    header.set_station("refuse " + code);
    return FakeFile(header, Pixels(k));
  }
  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (std::uint32_t k = 0; k < slices; ++k) files.push_back(File(k));
    return files;
  }
};

}  // namespace tomoserve::dispatch
