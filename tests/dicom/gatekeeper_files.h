// Files that the gatekeeper's tests begin with, and what it says of them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dicom/file_builder.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom::testing {

inline std::string ReasonFor(const FileBuilder& file, const Limits& limits = {}) {
  return base::ReasonOf(Inspect(file.bytes(), limits).status());
}
inline std::string ValueFor(const FileBuilder& file, const Limits& limits = {}) {
  return base::ValueOf(Inspect(file.bytes(), limits).status());
}

inline FileBuilder SmallCt(std::string_view syntax = kExplicitLittleEndian) {
  FileBuilder file = FileBuilder::WithMeta(syntax);
  file.Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2").Text(0x00100020, "LO", "P1");
  file.Pixels(4, 4, 16, 16, 15, true);
  file.Header(0x7FE00010, "OW", 32);
  for (std::uint32_t i = 0; i < 16; ++i) file.U16(i);
  return file;
}

// 64 bytes of RLE header, then one segment per byte of a 16 bit pixel.
inline std::vector<std::byte> RleFragment(std::uint32_t segments, std::uint32_t first, std::uint32_t second,
                                          std::string_view data) {
  FileBuilder header = FileBuilder::Bare(true, false);
  header.U32(segments).U32(first).U32(second);
  for (int i = 3; i < 16; ++i) header.U32(0);
  return FileBuilder(header).Raw(data).bytes();
}

}  // namespace tomoserve::dicom::testing
