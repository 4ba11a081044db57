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

// Every `step_j`-th row's every `step_i`-th value of a slice with `columns` values a row, rescaled, into
// `out`, rows x columns of that many. The slice has been checked.
void RescaleSamples(const StoredSlice& slice, std::size_t columns, std::size_t step_j, std::size_t step_i,
                    std::span<float> out);

}  // namespace tomoserve::compute
