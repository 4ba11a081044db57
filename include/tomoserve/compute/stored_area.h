// Where on a volume's slices the stored images lie: a corrected grid is larger than each of them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/stored_to_float.h"

namespace tomoserve::compute {

// The part of a slice into which only stored pixels went, none from outside; empty where last < first. Of an
// interpolated slice: what both its neighbours have.
struct StoredArea {
  std::array<std::int64_t, 2> first_ij{};
  std::array<std::int64_t, 2> last_ij{};   // inclusive
  std::array<std::uint32_t, 2> size_ij{};  // of the stored image
  std::array<double, 2> centre_ij{};       // of the stored image, as a place on the grid
  bool interpolated = false;               // StoredSlice::between

  bool IsEmpty() const { return last_ij[0] < first_ij[0] || last_ij[1] < first_ij[1]; }
  // Whether a row's pixels first_i to last_i reach the edge of the stored image, or lie beyond it.
  bool IsEdge(std::int64_t first_i, std::int64_t last_i, std::int64_t j) const {
    return first_i <= first_ij[0] || last_i >= last_ij[0] || j <= first_ij[1] || j >= last_ij[1];
  }
};

// One per slice. Errors: those of StoredToFloat.
absl::StatusOr<std::vector<StoredArea>> StoredAreas(std::span<const StoredSlice> slices,
                                                    const std::array<std::uint32_t, 3>& size_ijk);

// Those of slices that are all stored and fill the grid.
std::vector<StoredArea> WholeAreas(const std::array<std::uint32_t, 3>& size_ijk);

}  // namespace tomoserve::compute
