// Pixels of one frame as stored values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "tomoserve/dicom/gatekeeper.h"
#include "tomoserve/dicom/runtime.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// What the header pass said about the frame.
struct FrameRequest {
  std::uint32_t frame = 0;  // from 0
  ipc::v1::StoredType stored_type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  bool slow_codec = false;  // HTJ2K: by OpenJPEG, never by OpenJPH

  bool operator==(const FrameRequest&) const = default;
};

// Type of a decoded frame: Bits Allocated wide, signed by Pixel Representation. Unspecified where a volume
// could not use it (not one sample a pixel; other than 8, 16 or 32 bits allocated).
ipc::v1::StoredType StoredTypeOf(const PixelFormat& pixels);

// Decodes one frame into `slot`: Rows x Columns values, row by row (columns fastest), native endian, shifted
// down from High Bit, masked to Bits Stored and sign-extended. Only the first rows * columns * bytes of the
// slot are written. The header decides sign and size; a codestream with other dimensions is refused before it
// is decoded. Errors: FRAME_MISMATCH (the file is not what the request says), SLOT_TOO_SMALL,
// CODESTREAM_MISMATCH, CODESTREAM_BROKEN, MALFORMED, UNSUPPORTED_PIXELS, OUT_OF_MEMORY.
absl::Status DecodeFrame(const Runtime& runtime, std::span<const std::byte> file, const FileLayout& layout,
                         const FrameRequest& request, std::span<std::byte> slot);

// Copies a rectangle of a decoded frame into `slot`: tile rows x tile columns. FRAME_MISMATCH if it reaches
// over the frame's border or is empty, SLOT_TOO_SMALL.
absl::Status CutTile(std::span<const std::byte> frame, const FrameRequest& request, const ipc::v1::Tile& tile,
                     std::span<std::byte> slot);

}  // namespace tomoserve::dicom
