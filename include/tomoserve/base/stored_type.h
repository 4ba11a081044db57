// Stored values as they lie in an arena.
#pragma once

#include <cstdint>

#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::base {

// Bytes of one value of a type; 0 for the unspecified and any unknown one.
constexpr std::uint32_t BytesOf(ipc::v1::StoredType type) {
  switch (type) {
    case ipc::v1::STORED_TYPE_U8:
    case ipc::v1::STORED_TYPE_I8:
      return 1;
    case ipc::v1::STORED_TYPE_U16:
    case ipc::v1::STORED_TYPE_I16:
      return 2;
    case ipc::v1::STORED_TYPE_U32:
    case ipc::v1::STORED_TYPE_I32:
      return 4;
    default:
      return 0;
  }
}

}  // namespace tomoserve::base
