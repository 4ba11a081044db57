// NumPy's .npy files, as far as known answers need them: version 1.0, little-endian integers in C order.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::models {

enum class NpyType { kU8, kI16, kU16 };

// Bytes of one value: 1 or 2.
std::uint32_t BytesOf(NpyType type);

// An array in a file's bytes; the last axis is the fastest one.
struct NpyArray {
  NpyType type = NpyType::kU8;
  std::vector<std::uint64_t> shape;  // at most 8 axes, none empty
  std::string_view data;             // exactly the values, little-endian, not aligned; points into the file
};

// `file`: all bytes of it; any bytes may come. Errors, kInvalidArgument: NPY_SYNTAX (value: "magic",
// "length", "header" or the key) for what is no such file or ends early, NPY_VERSION (value: as "2.0") for
// any but 1.0, NPY_ORDER for Fortran's order, NPY_TYPE (value: the type) for any but uint8, int16 and uint16,
// NPY_SHAPE (value: the shape) for an axis of 0, more than 8 or more values than 2^40, NPY_SIZE (value: bytes
// of data) where these are not what type and shape say.
absl::StatusOr<NpyArray> ReadNpy(std::string_view file);

}  // namespace tomoserve::models
