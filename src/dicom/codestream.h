// The main headers of JPEG, JPEG-LS and JPEG 2000 codestreams, read before a decoder sees them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace tomoserve::dicom {

struct CodestreamInfo {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  std::uint32_t components = 0;
  std::uint32_t precision = 0;   // bits a sample
  bool is_signed = false;        // JPEG 2000 only
  bool reversible = false;       // JPEG 2000: 5-3 wavelet; JPEG: lossless process
  bool high_throughput = false;  // JPEG 2000: HT code blocks (T.814)
};

// JPEG (ITU-T T.81) and JPEG-LS (T.87): first frame header. CODESTREAM_BROKEN.
absl::StatusOr<CodestreamInfo> ReadJpegInfo(std::span<const std::byte> stream);

// JPEG 2000 (T.800, T.814): SIZ and COD. CODESTREAM_BROKEN; also for more than 4096 tiles or subsampled
// components, which no slice has and which make decoders allocate.
absl::StatusOr<CodestreamInfo> ReadJpeg2000Info(std::span<const std::byte> stream);

// The codestream inside a JP2 file (T.800 annex I), which some writers put into fragments; `stream` itself
// if it is none.
std::span<const std::byte> WithoutJp2(std::span<const std::byte> stream);

}  // namespace tomoserve::dicom
