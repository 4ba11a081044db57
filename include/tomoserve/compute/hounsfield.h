// A look at the values of a CT before a network sees them.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/volume/hounsfield.h"

namespace tomoserve::compute {

// Counts every fourth pixel of every fourth row of the stored slices of a volume (nothing that is
// interpolated, and no air that is added beside shifted slices). On the host, from the stored values. Errors:
// those of StoredToFloat.
absl::StatusOr<volume::HounsfieldCounts> CountHounsfield(std::span<const StoredSlice> slices,
                                                         const std::array<std::uint32_t, 3>& size_ijk,
                                                         const Parallel& parallel);

}  // namespace tomoserve::compute
