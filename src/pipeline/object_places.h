// Where the voxels of a grid on which objects are measured lie in the volume.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tomoserve/compute/components.h"
#include "tomoserve/compute/measure.h"
#include "tomoserve/compute/object_values.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/pipeline/run_plan.h"

namespace tomoserve::pipeline {

class ObjectPlaces {
 public:
  // Of the volume's own grid. `areas`, of each slice of the volume, must outlive this object.
  explicit ObjectPlaces(std::span<const compute::StoredArea> areas) : areas_(areas) {}

  // Of the model grid in its memory's order.
  ObjectPlaces(const RunPlan& plan, std::span<const compute::StoredArea> areas);

  // The slice of the volume that slice k is nearest to.
  std::int64_t NearestSlice(std::int64_t k) const;

  // The volume's voxel that each voxel is nearest to, by axis; empty: the same grid.
  const compute::NearestVoxels& nearest() const { return nearest_; }

  // Whether an object of this extent reaches a face of the volume: of the model grid one that is the
  // volume's, not where a crop ends.
  bool TouchesVolumeEdge(const compute::Extent& extent) const;

  // Whether a run reaches the edge of a stored image, or lies beyond it; whether it lies on an interpolated
  // slice. A voxel of the model grid lies on the volume's voxels that it was made from and on those that take
  // its label.
  bool IsAtStoredEdge(const compute::RowRun& run) const;
  bool IsOnInterpolatedSlice(const compute::RowRun& run) const;

 private:
  struct Range {
    std::int64_t first = 0;
    std::int64_t last = 0;  // inclusive
  };
  struct Axis {
    std::vector<Range> ranges;          // of the volume's voxels, by the model grid's; empty: the same grid
    std::array<bool, 2> volume_ends{};  // whether its first and last voxel are at a face of the volume
  };
  Range Of(std::size_t axis, std::int64_t at) const;

  std::span<const compute::StoredArea> areas_;
  std::array<Axis, 3> axes_;  // i, j, k
  compute::NearestVoxels nearest_;
};

}  // namespace tomoserve::pipeline
