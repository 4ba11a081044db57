// Functional groups of enhanced multi-frame images (PS3.3 C.7.6.16): where their values lie, and one header
// for each frame.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "dicom/field_reader.h"
#include "dicom/tokenizer.h"
#include "dicom/values.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Whether values that the header pass reads lie in this sequence, at any depth: implicit VR and VR UN hide
// that it is one.
bool IsGroupSequence(std::uint32_t tag);

// Keeps the place of an element under Shared (5200,9229) or Per-Frame (5200,9230) Functional Groups if the
// header pass reads it. `path`: the items above it, outermost first. MALFORMED (value: tag) where a
// functional group has more items than the one that the standard allows, or a value is longer than any valid
// one.
absl::Status KeepGroupValue(std::span<const Step> path, std::uint32_t tag, ByteRange value,
                            FileLayout& layout);

// Fills header.frame with one entry for each frame, if `layout` has Per-Frame Functional Groups: the shared
// values with the frame's own over them. A value that is malformed is left out and listed as a repair.
// Errors: MALFORMED (value: tag) if there are not as many items as frames, a value is there twice, or a
// rescale slope or intercept is no number; TOO_MANY_FRAMES (value: the limit, 65,536); HEADER_TOO_LARGE
// (value: the limit, 16 MiB of frames encoded) where the values, repeated for each frame, come to more.
absl::Status ReadFrames(std::span<const std::byte> file, const FileLayout& layout, const HeaderValues& values,
                        FieldReader& read, ipc::v1::InstanceHeader& header);

}  // namespace tomoserve::dicom
