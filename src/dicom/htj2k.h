// High-throughput JPEG 2000 (ITU-T T.814) by OpenJPH, from and to memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "dicom/codestream.h"

namespace tomoserve::dicom {

// Decodes an HT codestream of one component of at most 16 bits into width * height samples, row by row, as 32
// bit two's complement within the range of the precision. ReadJpeg2000Info has accepted it as `info`, and
// IsPlainHtj2k has too: others may end the process. CODESTREAM_BROKEN. Exceptions of the library pass
// through.
absl::Status DecodeHtj2k(std::span<const std::byte> codestream, const CodestreamInfo& info,
                         std::span<std::int32_t> samples);

// Encodes losslessly (5-3 wavelet, one tile). `samples`: rows * columns. Exceptions of the library pass
// through.
std::vector<std::byte> EncodeHtj2k(std::span<const std::int32_t> samples, std::uint32_t rows,
                                   std::uint32_t columns, std::uint32_t bits_stored, bool is_signed);

// Silences the library: its messages are printed otherwise, also those of errors that it throws.
void SilenceHtj2k();

}  // namespace tomoserve::dicom
