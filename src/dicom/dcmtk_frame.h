// JPEG and JPEG-LS codestreams by DCMTK's codecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "dicom/codestream.h"

namespace tomoserve::dicom {

// Decodes one frame of one sample a pixel. DCMTK gets a dataset made here that holds nothing but the
// codestream and its own dimensions, never one of the file. `out`: width * height samples of 1 byte
// (precision <= 8) or 2 bytes, native endian. CODESTREAM_BROKEN.
absl::Status DecodeByDcmtk(std::string_view transfer_syntax, std::span<const std::byte> codestream,
                           const CodestreamInfo& info, std::span<std::byte> out);

}  // namespace tomoserve::dicom
