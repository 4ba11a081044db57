// From stored integers to a volume of values.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::compute {

// One slice as it lies in an arena: rows x columns stored integers, row by row, little-endian.
struct StoredSlice {
  std::span<const std::byte> bytes;
  ipc::v1::StoredType type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  double slope = 1;      // value = stored * slope + intercept (PS3.3 C.11.1.1.2)
  double intercept = 0;  // in the unit of the values, HU for CT
};

// Float32 volume [k][j][i] of the rescaled values on the placement's device; slice k of the volume is
// slices[k]. The product and sum are computed in double and rounded once, so integral HU are exact and every
// placement gives the same bits. The slices are not needed any more when this returns. To a device they go
// through a pinned ring on a stream of their own; what the current stream does next waits for them, the
// caller does not.
// Errors: kInvalidArgument SLICE_COUNT (value: slices given), SLICE_BYTES (value: k), SLICE_TYPE (value: k),
// RESCALE_INVALID (value: k) for factors that are not finite or too large for float32; those of ParallelFor.
absl::StatusOr<at::Tensor> StoredToFloat(std::span<const StoredSlice> slices,
                                         const std::array<std::uint32_t, 3>& size_ijk,
                                         const Parallel& parallel, const Placement& placement = {});

}  // namespace tomoserve::compute
