// The header pass: the allow-listed fields of one instance.
#pragma once

#include <cstddef>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Inspects a file and reads its header. Text comes out as valid UTF-8; what could not be converted is U+FFFD
// and listed as CHARSET_REPAIRED (value: the tag), an optional number that is none as MALFORMED_VALUE.
// Numbers (DS, IS; PS3.5 6.2) are parsed strictly. An enhanced multi-frame image has a header for each frame,
// a Siemens mosaic the places of its slices. Other repairs (value: the tag): TEXT_CUT,
// TRANSFER_SYNTAX_GUESSED, ENCODING_REPAIRED, HIGH_BIT_REPAIRED; CODESTREAM_SIGN (JPEG 2000 says another sign
// than the header, which is followed), MODALITY_LUT (a picture: its values are no linear measure),
// MOSAIC_UNREADABLE (no place for its slices), MOSAIC_UNLABELLED (private elements say mosaic and Image Type
// does not, which was followed: an ordinary image), PRIVATE_SCALING_UNUSED (Philips). Errors: those of
// Inspect; MALFORMED(tag) where Rescale Slope or Intercept is no number (without it the pixels have no
// meaning), and where functional groups are not one item for each frame or say a thing twice;
// TOO_MANY_FRAMES(65536) and HEADER_TOO_LARGE(16777216; bytes of all frames' values) with functional groups.
absl::StatusOr<ipc::v1::InstanceHeader> ReadHeader(std::span<const std::byte> file, const Limits& limits);

// The same for a file that was inspected before.
absl::StatusOr<ipc::v1::InstanceHeader> ReadHeader(std::span<const std::byte> file, const FileLayout& layout);

// Of a file that was refused: sets the UIDs of series and instance and the modality as far as they can be
// read and are valid (PS3.5 9.1, CS), each on its own.
void IdentifyRefused(std::span<const std::byte> file, const Limits& limits, ipc::v1::Refusal& refusal);

// Manufacturer in the Contributing Equipment of what Tomoserve writes as a result; such objects are
// recognised on their way back in (written_by_tomoserve).
inline constexpr char kResultManufacturer[] = "Tomoserve";

}  // namespace tomoserve::dicom
