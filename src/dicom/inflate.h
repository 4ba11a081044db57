// Deflated Explicit VR Little Endian (PS3.5 A.5), which is read only where the limits say so.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom {

// The file with its dataset inflated, ready for Inspect; nothing if `limits` do not allow it, or its meta
// header does not declare that syntax. No more than min(limits.instance_bytes, 100 x the file) bytes are
// made. Errors: INFLATED_TOO_LARGE (value: that limit), TRUNCATED or MALFORMED (value: file offset).
absl::StatusOr<std::optional<std::vector<std::byte>>> Inflate(std::span<const std::byte> file,
                                                              const Limits& limits);

}  // namespace tomoserve::dicom
