// How large a header with one entry for each frame may be: the helper keeps to it, and the front believes no
// more.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::ipc {

// Frames that a header may have.
inline constexpr int kMaxHeaderFrames = 65'536;

// Encoded bytes of all its frames. A frame with every value that is read needs about 250.
inline constexpr std::size_t kMaxHeaderFrameBytes = 16u << 20;

// Longest text of a frame, and most values of its Frame Type (value representations SH, LO and CS allow
// less).
inline constexpr std::size_t kMaxFrameTextBytes = 64;
inline constexpr int kMaxFrameTypes = 16;

// Memory that a header takes, bytes.
std::uint64_t HeldBytes(const v1::InstanceHeader& header);

}  // namespace tomoserve::ipc
