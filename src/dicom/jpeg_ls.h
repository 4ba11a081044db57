// JPEG-LS preset coding parameters (ITU-T T.87 C.2.4.1).
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/status.h"

namespace tomoserve::dicom {

// Whether the parameters before the first scan are ones that CharLS computes with: it asserts, and ends its
// process, when RESET errors of MAXVAL do not fit its counters. CODESTREAM_BROKEN otherwise (value: RESET, or
// offset), also where the markers lead nowhere.
absl::Status CheckJpegLsParameters(std::span<const std::byte> stream);

}  // namespace tomoserve::dicom
