// RLE (PS3.5 annex G).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace tomoserve::dicom {

// Checks a frame's header: as many segments as bytes a pixel, offsets ascending and inside the fragment, and
// data enough for `pixels` at the best ratio there is (128 bytes from 2). MALFORMED or PIXELS_MISSING.
absl::Status CheckRleFrame(std::span<const std::byte> fragment, std::uint32_t bytes_per_pixel,
                           std::uint64_t pixels);

// Decodes a frame of one sample a pixel into native-endian words of `bytes_per_pixel` (1, 2 or 4) bytes each.
// out.size() is pixels * bytes_per_pixel. CODESTREAM_BROKEN if a segment ends early.
absl::Status DecodeRleFrame(std::span<const std::byte> fragment, std::uint32_t bytes_per_pixel,
                            std::span<std::byte> out);

}  // namespace tomoserve::dicom
