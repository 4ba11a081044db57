// Replies of helpers are hostile until these say otherwise. Pure functions.
#pragma once

#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// A code in UPPER_SNAKE (<= 64 characters), value and text short and without control characters.
bool IsPlausible(const v1::Refusal& refusal);

// Frames that a header may have.
inline constexpr int kMaxHeaderFrames = 65'536;

// At least one frame, each with finite numbers, vectors of the length that DICOM gives them, and short texts.
bool IsPlausible(const v1::FramePart& part);

// Known enum values, finite numbers, vectors of the length that DICOM gives them, rows and columns of 16
// bits, and a volume of pixels within `limits` (0: 4 GiB); no frames, or exactly as many plausible ones as it
// says; a mosaic whose tiles lie in the image. Text is UTF-8: the message would not have parsed.
bool IsPlausible(const v1::InstanceHeader& header, const v1::GatekeeperLimits& limits);

bool IsSame(const v1::Slot& a, const v1::Slot& b);

}  // namespace tomoserve::ipc
