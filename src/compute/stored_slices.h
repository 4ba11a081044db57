// Stored slices, checked and read on the host. Private to the room.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "tomoserve/compute/stored_to_float.h"

namespace tomoserve::compute {

// Whether the slices are those of a volume of this size: errors of StoredToFloat.
absl::Status CheckSlices(std::span<const StoredSlice> slices, const std::array<std::uint32_t, 3>& size_ijk);

// Every `step_j`-th row's every `step_i`-th value of slice k of a volume with `columns` columns, rescaled
// (and shifted, or interpolated), into `out`, rows x columns of that many. The slices have been checked.
void RescaleSamples(std::span<const StoredSlice> slices, std::size_t k, std::size_t columns,
                    std::size_t step_j, std::size_t step_i, std::span<float> out);

// Row j of slice k of such a volume from column `first_i` on, as many values as `out` has: bit-identical to
// those of StoredToFloat. The slices have been checked.
void RescaleRow(std::span<const StoredSlice> slices, std::size_t k, std::size_t columns, std::size_t j,
                std::size_t first_i, std::span<float> out);

// The mix that both placements compute: a * (1 - weight) + b * weight.
inline double Mix(double a, double b, double weight) { return a * (1 - weight) + b * weight; }

// A shift along one axis: whole pixels, and the rest in [0, 1).
struct AxisShift {
  explicit AxisShift(double pixels)
      : whole(static_cast<std::int64_t>(pixels)), rest(pixels - static_cast<double>(whole)) {}
  std::int64_t whole;
  double rest;
};

}  // namespace tomoserve::compute
