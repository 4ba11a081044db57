// What was stored where an object lies, in the unit of the values.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/compute/stored_to_float.h"

namespace tomoserve::compute {

struct ValueStatistics {
  std::uint64_t values = 0;  // 0: nothing was stored there, and the rest says nothing
  double mean = 0;
  double deviation = 0;  // of all these values: divided by their number
};

// By axis i, j, k the volume's voxel that is nearest to each voxel of another grid; empty: the volume's own.
using NearestVoxels = std::array<std::vector<std::int32_t>, 3>;

// Stored slices of a volume. References: what they point to must outlive this object.
class StoredValues {
 public:
  // Errors: those of StoredToFloat.
  static absl::StatusOr<StoredValues> Create(std::span<const StoredSlice> slices,
                                             const std::array<std::uint32_t, 3>& size_ijk);

  // Of the voxels of `runs`, each once: on another grid of the voxel of the volume that is nearest. The
  // values are those of StoredToFloat, on shifted and interpolated slices too; pixels into which values from
  // outside of the stored images went are left out. On the host for every placement; sums are added in one
  // order, whatever `parallel` says. Errors: those of ParallelFor.
  absl::StatusOr<ValueStatistics> Measure(std::span<const RowRun> runs, const NearestVoxels& nearest,
                                          const Parallel& parallel) const;

 private:
  StoredValues(std::span<const StoredSlice> slices, std::uint32_t columns, std::vector<StoredArea> areas)
      : slices_(slices), columns_(columns), areas_(std::move(areas)) {}

  std::span<const StoredSlice> slices_;
  std::uint32_t columns_;
  std::vector<StoredArea> areas_;
};

}  // namespace tomoserve::compute
