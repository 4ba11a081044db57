// JPEG 2000 and HTJ2K by OpenJPEG, from and to memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::dicom {

// Decodes a codestream of one component (ReadJpeg2000Info has accepted it) into width * height samples, row
// by row, as 32 bit two's complement. CODESTREAM_BROKEN.
absl::Status DecodeJpeg2000(std::span<const std::byte> codestream, std::span<std::int32_t> samples);

// Encodes losslessly (5-3 wavelet, one tile). `samples`: rows * columns. ENCODE_FAILED.
absl::StatusOr<std::vector<std::byte>> EncodeJpeg2000(std::span<const std::int32_t> samples,
                                                      std::uint32_t rows, std::uint32_t columns,
                                                      std::uint32_t bits_stored, bool is_signed);

}  // namespace tomoserve::dicom
