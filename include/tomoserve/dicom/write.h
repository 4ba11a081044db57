// Classic CT and MR images of the phantom.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/runtime.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

// Writes a CT Image (PS3.3 A.3) or MR Image (A.4) file into `file` and gives its length. `pixels`: Rows x
// Columns stored values of instance.stored_type (I16 or U16), native endian. Syntaxes: implicit and explicit
// little endian, explicit big endian, RLE, JPEG lossless (.70), JPEG-LS lossless (.80), JPEG 2000 lossless
// (.90). No UID and no time is made up here. Errors: INSTANCE_INVALID(field), UNSUPPORTED_TRANSFER_SYNTAX,
// SLOT_TOO_SMALL, ENCODE_FAILED.
absl::StatusOr<std::uint64_t> WriteInstance(const Runtime& runtime,
                                            const ipc::v1::SyntheticInstance& instance,
                                            std::span<const std::byte> pixels, std::span<std::byte> file);

}  // namespace tomoserve::dicom
