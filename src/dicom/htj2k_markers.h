// What the markers of a high-throughput JPEG 2000 codestream (ITU-T T.800 annex A, T.814) say before OpenJPH
// sees it: that library trusts them, ends its process where they contradict each other, and fills up what was
// cut off.
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/statusor.h"

namespace tomoserve::dicom {

// Whether OpenJPH can decode the codestream (ReadJpeg2000Info has accepted it, its code blocks are HT): its
// main header has SIZ, CAP, COD and QCD, each once, that agree with each other, nothing for single components
// or tiles, and HT code blocks only. False: only a complete decoder can. CODESTREAM_BROKEN (value: offset)
// where a marker or a tile-part reaches over the end.
absl::StatusOr<bool> IsPlainHtj2k(std::span<const std::byte> codestream);

}  // namespace tomoserve::dicom
