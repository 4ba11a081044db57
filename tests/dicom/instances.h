// Instances to write, shared by the tests of this room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/dicom/transfer_syntax.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom::testing {

inline constexpr std::string_view kWritable[] = {
    kImplicitLittleEndian, kExplicitLittleEndian, kExplicitBigEndian, kRleLossless,
    kJpegLossless,         kJpegLsLossless,       kJpeg2000Lossless};

inline ipc::v1::SyntheticInstance Instance(std::string_view syntax, std::string_view modality,
                                           std::uint32_t rows, std::uint32_t columns,
                                           ipc::v1::StoredType type, std::uint32_t bits) {
  ipc::v1::SyntheticInstance instance;
  instance.set_modality(std::string(modality));
  instance.set_transfer_syntax(std::string(syntax));
  instance.set_sop_instance_uid("2.25.1001");
  instance.set_study_instance_uid("2.25.1002");
  instance.set_series_instance_uid("2.25.1003");
  instance.set_frame_of_reference_uid("2.25.1004");
  instance.set_patient_id("PHANTOM-1");
  instance.set_patient_name("Phantom^Thorax Ä");
  instance.set_accession_number("ACC7");
  instance.set_date("20250102");
  instance.set_time("030405");
  instance.set_instance_number(9);
  instance.set_rows(rows);
  instance.set_columns(columns);
  instance.set_stored_type(type);
  instance.set_bits_stored(bits);
  instance.set_rescale_slope(0.5);
  instance.set_rescale_intercept(-1024);
  for (const double value : {0.7421875, 0.8}) instance.add_pixel_spacing_mm(value);
  instance.set_slice_thickness_mm(1.25);
  for (const double value : {-190.123456789, 12.5, -1e-7}) instance.add_image_position(value);
  for (const double value : {1., 0., 0., 0., 1., 0.}) instance.add_image_orientation(value);
  instance.set_series_description("Thorax 1.25 mm");
  instance.set_acquisition_number(1);
  instance.set_body_part("CHEST");
  return instance;
}

// A slope with noise and both ends of the range of `bits`, as 16 bit words (sign-extended if signed).
inline std::vector<std::byte> Picture(const ipc::v1::SyntheticInstance& instance) {
  const std::size_t count = std::size_t{instance.rows()} * instance.columns();
  const bool is_signed = instance.stored_type() == ipc::v1::STORED_TYPE_I16;
  const int low = is_signed ? -(1 << (instance.bits_stored() - 1)) : 0;
  const int high = low + (1 << instance.bits_stored()) - 1;
  std::mt19937 random(3);
  std::vector<std::uint16_t> words(count);
  for (std::size_t i = 0; i < count; ++i) {
    const int slope = low + static_cast<int>((i * 37) % static_cast<std::size_t>(high - low));
    words[i] = static_cast<std::uint16_t>(i % 50 < 40 ? slope : static_cast<int>(random() % 64));
  }
  words[0] = static_cast<std::uint16_t>(low);
  words[count - 1] = static_cast<std::uint16_t>(high);
  std::vector<std::byte> bytes(count * 2);
  std::memcpy(bytes.data(), words.data(), bytes.size());
  return bytes;
}

}  // namespace tomoserve::dicom::testing
