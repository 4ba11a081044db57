// CSA headers and mosaics as Siemens MR scanners write them.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dicom/file_builder.h"

namespace tomoserve::dicom::testing {

struct CsaEntry {
  std::string name;
  std::vector<std::string> values;
  std::uint32_t items = 6;  // as many as scanners reserve
};

inline FileBuilder CsaHeader(const std::vector<CsaEntry>& entries) {
  FileBuilder csa = FileBuilder::Bare(true, false);
  csa.Raw("SV10").U32(0x01020304).U32(static_cast<std::uint32_t>(entries.size())).U32(77);
  for (const CsaEntry& entry : entries) {
    std::string name = entry.name;
    name.resize(64);
    csa.Raw(name).U32(static_cast<std::uint32_t>(entry.values.size()));
    csa.Raw(std::string_view("FD\0\0", 4)).U32(4).U32(entry.items).U32(77);
    for (std::uint32_t i = 0; i < entry.items; ++i) {
      std::string value = i < entry.values.size() ? entry.values[i] + std::string(1, '\0') : "";
      const auto length = static_cast<std::uint32_t>(value.size());
      csa.U32(length).U32(length).U32(77).U32(length);
      value.resize((value.size() + 3) / 4 * 4);
      csa.Raw(value);
    }
  }
  return csa;
}

// An MR image of rows x columns that may be a mosaic; what is empty is left out.
struct MosaicFile {
  std::string image_type = "ORIGINAL\\PRIMARY\\M\\ND\\MOSAIC";
  std::string position = "-100\\-200\\30";
  std::string orientation = "1\\0\\0\\0\\1\\0";
  std::string pixel_spacing = "2\\3";
  std::string slice_gap = "4.5";
  std::string slices = "5";
  std::vector<std::string> normal = {"0.0", "0.0", "1.0"};
  std::uint32_t private_slices = 0;  // in (0019,xx0A)
  std::uint32_t block = 0x10;        // of private elements
  std::uint32_t rows = 6;
  std::uint32_t columns = 12;

  FileBuilder Build() const {
    FileBuilder file = FileBuilder::WithMeta(kExplicitLittleEndian);
    const auto text = [&](std::uint32_t tag, std::string_view vr, const std::string& value) {
      if (!value.empty()) file.Text(tag, vr, value);
    };
    text(0x00080008, "CS", image_type);
    text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.4");
    text(0x00080060, "CS", "MR");
    text(0x00180088, "DS", slice_gap);
    if (private_slices > 0) {
      text(0x00190000 | block, "LO", "SIEMENS MR HEADER");
      file.Us(0x0019000A | block << 8, private_slices);
    }
    text(0x00200032, "DS", position);
    text(0x00200037, "DS", orientation);
    file.Us(0x00280002, 1).Text(0x00280004, "CS", "MONOCHROME2").Us(0x00280010, rows).Us(0x00280011, columns);
    text(0x00280030, "DS", pixel_spacing);
    file.Us(0x00280100, 16).Us(0x00280101, 12).Us(0x00280102, 11).Us(0x00280103, 0);
    std::vector<CsaEntry> entries = {{"EchoLinePosition", {"36"}}};
    if (!slices.empty()) entries.push_back({"NumberOfImagesInMosaic", {slices}});
    if (!normal.empty()) entries.push_back({"SliceNormalVector", normal});
    text(0x00290000 | block, "LO", "SIEMENS CSA HEADER");
    file.Value(0x00290010 | block << 8, "OB", CsaHeader(entries).bytes());
    file.Header(0x7FE00010, "OW", rows * columns * 2);
    for (std::uint32_t i = 0; i < rows * columns; ++i) file.U16(i);
    return file;
  }
};

}  // namespace tomoserve::dicom::testing
