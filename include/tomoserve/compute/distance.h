// How far objects of one grid are from each other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tomoserve/compute/components.h"

namespace tomoserve::compute {

// Runs of one object in k, j, i order, found by slice.
class RunsBySlice {
 public:
  // `runs` must outlive this object.
  explicit RunsBySlice(std::span<const RowRun> runs);

  struct Slice {
    std::int32_t k = 0;
    std::array<std::int32_t, 2> first_ij{};  // of the box around its runs
    std::array<std::int32_t, 2> last_ij{};   // inclusive
    std::span<const RowRun> runs;
  };
  const std::vector<Slice>& slices() const { return slices_; }  // k ascending

 private:
  std::vector<Slice> slices_;
};

// Least distance between a voxel of one object and one of the other, from surface to surface: voxels that are
// n apart along an axis leave a gap of n - 1 between them. 0 where the objects touch or overlap, infinite
// where one is empty. The axes are taken to be perpendicular.
double LeastDistanceMm(const RunsBySlice& object, const RunsBySlice& other,
                       const std::array<double, 3>& spacing_mm);

}  // namespace tomoserve::compute
