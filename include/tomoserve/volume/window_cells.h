// How the windows of a run cut its prepared volume into cells. A cell is open from the first window that
// touches it to the last one; then its sums are final. Only open cells need sums.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tomoserve::volume {

// Starts of MONAI's windows along one axis, counted in the unpadded volume: the volume is padded up to one
// window on both sides (before: half, rounded down), the last window ends with it. Sizes are at least 1.
std::vector<std::int64_t> MonaiStarts(std::int64_t volume, std::int64_t window, double overlap);

// Along one axis.
struct AxisCells {
  std::vector<std::int64_t> bounds;  // cell c is [bounds[c], bounds[c + 1])
  std::vector<std::size_t> first;    // of each cell: the first and the last of the axis's starts whose window
  std::vector<std::size_t> last;     // touches it
  std::size_t starts = 0;

  std::size_t count() const { return first.size(); }
  std::int64_t Size(std::size_t cell) const { return bounds[cell + 1] - bounds[cell]; }
};

// Cells of an axis of `size` voxels, every one of which lies in a window; `starts` ascend. Cells end where
// windows start or end, except where they would become much smaller than a window.
AxisCells CellsOf(std::span<const std::int64_t> starts, std::int64_t window, std::int64_t size);

// Voxels of the cells that are open at the worst moment. There is a window for each combination of the axes'
// starts, those of axis 0 change slowest.
std::uint64_t MostOpenVoxels(const std::array<AxisCells, 3>& axes);

}  // namespace tomoserve::volume
