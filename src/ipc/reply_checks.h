// Replies of helpers are hostile until these say otherwise. Pure functions.
#pragma once

#include "tomoserve/ipc/header_limits.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// A code in UPPER_SNAKE (<= 64 characters), value and text short and without control characters.
bool IsPlausible(const v1::Refusal& refusal);

// At least one frame, each with finite numbers, vectors of the length that DICOM gives them, few values and
// short texts (kMaxFrameTextBytes).
bool IsPlausible(const v1::FramePart& part);

// Known enum values, finite numbers, vectors of the length that DICOM gives them, rows and columns of 16
// bits, and a volume of pixels within `limits` (0: 4 GiB); no frames, or exactly as many plausible ones as it
// says, of kMaxHeaderFrameBytes together; a mosaic whose tiles lie in the image. Text is UTF-8: the message
// would not have parsed.
bool IsPlausible(const v1::InstanceHeader& header, const v1::GatekeeperLimits& limits);

// Encoded bytes of the frames, as kMaxHeaderFrameBytes counts them.
std::size_t FrameBytes(const google::protobuf::RepeatedPtrField<v1::FrameHeader>& frames);

bool IsSame(const v1::Slot& a, const v1::Slot& b);

}  // namespace tomoserve::ipc
