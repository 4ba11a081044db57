#include "tomoserve/volume/window_cells.h"

#include <algorithm>

namespace tomoserve::volume {
namespace {

// A window touches at most so many cells along an axis, about.
constexpr std::int64_t kCellsOfWindow = 8;

// Voxels of cells at one moment of the innermost axes, or of all.
struct Voxels {
  std::uint64_t touched = 0;  // by a window so far, this one included
  std::uint64_t left = 0;     // that this window or a later one touches
  std::uint64_t open = 0;     // both
};

// The same with one more axis around: at its start `now`, where the inner axes have `whole` voxels.
Voxels Around(const AxisCells& axis, std::size_t now, std::uint64_t whole, const Voxels& inner) {
  const auto between = [&](std::int64_t from, std::int64_t to) {
    return static_cast<std::uint64_t>(to - from) * whole;
  };
  // Both ascend: the cells of this window lie between those of earlier and of later ones.
  auto cell =
      static_cast<std::size_t>(std::lower_bound(axis.last.begin(), axis.last.end(), now) - axis.last.begin());
  Voxels all;
  all.touched = between(axis.bounds.front(), axis.bounds[cell]);
  for (; cell < axis.count() && axis.first[cell] <= now; ++cell) {
    const auto size = static_cast<std::uint64_t>(axis.Size(cell));
    const bool first = axis.first[cell] == now;
    const bool last = axis.last[cell] == now;
    all.touched += size * (first ? inner.touched : whole);
    all.left += size * (last ? inner.left : whole);
    all.open += size * (first && last ? inner.open : first ? inner.touched : last ? inner.left : whole);
  }
  all.left += between(axis.bounds[cell], axis.bounds.back());
  return all;
}

std::uint64_t SizeOf(const AxisCells& axis) {
  return static_cast<std::uint64_t>(axis.bounds.back() - axis.bounds.front());
}

}  // namespace

std::vector<std::int64_t> MonaiStarts(std::int64_t volume, std::int64_t window, double overlap) {
  const std::int64_t padded = std::max(volume, window);
  const std::int64_t pad_before = (padded - volume) / 2;
  const std::int64_t interval =
      window == padded
          ? window
          : std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(window) * (1 - overlap)), 1);
  std::vector<std::int64_t> starts;
  for (std::int64_t start = 0;; start += interval) {
    starts.push_back(std::min(start, padded - window) - pad_before);
    if (start + window >= padded) return starts;
  }
}

AxisCells CellsOf(std::span<const std::int64_t> starts, std::int64_t window, std::int64_t size) {
  std::vector<std::int64_t> wanted;
  for (const std::int64_t start : starts) {
    wanted.push_back(start);
    wanted.push_back(start + window);
  }
  std::sort(wanted.begin(), wanted.end());
  AxisCells cells;
  cells.starts = starts.size();
  cells.bounds = {0};
  const std::int64_t smallest = std::max<std::int64_t>(window / kCellsOfWindow, 1);
  for (const std::int64_t bound : wanted) {
    if (bound < size && bound - cells.bounds.back() >= smallest) cells.bounds.push_back(bound);
  }
  cells.bounds.push_back(size);
  for (std::size_t cell = 0; cell + 1 < cells.bounds.size(); ++cell) {
    const auto ends_after = [&](std::int64_t start) { return start + window <= cells.bounds[cell]; };
    const auto starts_before = [&](std::int64_t start) { return start < cells.bounds[cell + 1]; };
    const auto first = std::partition_point(starts.begin(), starts.end(), ends_after);
    const auto past_last = std::partition_point(starts.begin(), starts.end(), starts_before);
    cells.first.push_back(static_cast<std::size_t>(first - starts.begin()));
    cells.last.push_back(static_cast<std::size_t>(past_last - starts.begin()) - 1);
  }
  return cells;
}

std::uint64_t MostOpenVoxels(const std::array<AxisCells, 3>& axes) {
  const std::uint64_t row = SizeOf(axes[2]);
  const std::uint64_t plane = SizeOf(axes[1]) * row;
  std::vector<Voxels> of_rows;
  for (std::size_t c = 0; c < axes[2].starts; ++c) of_rows.push_back(Around(axes[2], c, 1, {1, 1, 1}));
  std::vector<Voxels> of_planes;
  for (std::size_t b = 0; b < axes[1].starts; ++b) {
    for (const Voxels& of_row : of_rows) of_planes.push_back(Around(axes[1], b, row, of_row));
  }
  std::uint64_t most = 0;
  for (std::size_t a = 0; a < axes[0].starts; ++a) {
    for (const Voxels& of_plane : of_planes) most = std::max(most, Around(axes[0], a, plane, of_plane).open);
  }
  return most;
}

}  // namespace tomoserve::volume
