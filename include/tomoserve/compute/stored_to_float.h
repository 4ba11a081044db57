// From stored integers to a volume of values.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::compute {

// A slice that lies elsewhere in its plane than on the volume's grid: pixel (i, j) of the grid is at
// (i - ij[0], j - ij[1]) of the stored slice.
struct Shift {
  std::array<double, 2> ij{};                     // pixels, 0 or more
  std::array<std::uint32_t, 2> stored_size_ij{};  // columns, rows
  double outside = 0;                             // value of pixels beyond the stored ones
};

// A slice that is interpolated: (1 - weight) * slice `before` + weight * slice `after`, both stored ones.
struct Between {
  std::uint32_t before = 0;
  std::uint32_t after = 0;
  double weight = 0;  // in (0, 1)
};

// One slice as it lies in an arena: rows x columns stored integers, row by row, little-endian.
struct StoredSlice {
  std::span<const std::byte> bytes;
  ipc::v1::StoredType type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  double slope = 1;      // value = stored * slope + intercept (PS3.3 C.11.1.1.2)
  double intercept = 0;  // in the unit of the values, HU for CT
  std::optional<Shift> shift = std::nullopt;
  std::optional<Between> between = std::nullopt;  // then nothing above counts
};

// Float32 volume [k][j][i] of the rescaled values on the placement's device; slice k of the volume is
// slices[k]. The product and sum are computed in double and rounded once, so integral HU are exact and every
// placement gives the same bits. A shifted slice is interpolated linearly along i, then along j, in double
// and rounded once; pixels whose neighbours lie outside mix with `outside`. An interpolated slice is mixed
// from the rounded values of its neighbours, in double. The slices are not needed any more when this returns.
// To a device they go through a pinned ring on a stream of their own; what the current stream does next waits
// for them, the caller does not. Errors: kInvalidArgument SLICE_COUNT (value: slices given), SLICE_BYTES
// (value: k), SLICE_TYPE (value: k), SLICE_SHIFT (value: k) for a shift that is negative or larger than the
// grid, SLICE_BETWEEN (value: k) for neighbours that are no stored slices on both sides, RESCALE_INVALID
// (value: k) for factors that are not finite or too large for float32; those of ParallelFor.
absl::StatusOr<at::Tensor> StoredToFloat(std::span<const StoredSlice> slices,
                                         const std::array<std::uint32_t, 3>& size_ijk,
                                         const Parallel& parallel, const Placement& placement = {});

}  // namespace tomoserve::compute
