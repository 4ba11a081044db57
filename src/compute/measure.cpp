#include "tomoserve/compute/measure.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "compute/convex_hull.h"

namespace tomoserve::compute {
namespace {

using Vector = std::array<double, 3>;

// Displacements of one voxel along i, j, k in a frame where distances are Euclidean and, for orthogonal
// grids, each axis has a coordinate of its own: the Cholesky factor of the axes' scalar products.
class Frame {
 public:
  explicit Frame(const volume::Geometry& geometry) {
    std::array<Vector, 3> steps{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (std::size_t c = 0; c < 3; ++c) {
        steps[axis][c] = geometry.directions()[axis][c] * geometry.spacing_mm()[axis];
      }
    }
    const auto product = [&](std::size_t a, std::size_t b) {
      return steps[a][0] * steps[b][0] + steps[a][1] * steps[b][1] + steps[a][2] * steps[b][2];
    };
    for (std::size_t row = 0; row < 3; ++row) {
      for (std::size_t column = row; column < 3; ++column) {
        double rest = product(row, column);
        for (std::size_t above = 0; above < row; ++above) rest -= upper_[above][row] * upper_[above][column];
        upper_[row][column] = row == column ? std::sqrt(std::max(rest, 0.0)) : rest / upper_[row][row];
      }
    }
  }

  Vector Of(double i, double j, double k) const {
    return {upper_[0][0] * i + upper_[0][1] * j + upper_[0][2] * k, upper_[1][1] * j + upper_[1][2] * k,
            upper_[2][2] * k};
  }

  Vector Of(const GridPoint& point) const {
    return Of(static_cast<double>(point[0]), static_cast<double>(point[1]), static_cast<double>(point[2]));
  }

 private:
  std::array<Vector, 3> upper_{};
};

double SquaredDistance(const Vector& a, const Vector& b) {
  double sum = 0;
  for (std::size_t c = 0; c < 3; ++c) sum += (a[c] - b[c]) * (a[c] - b[c]);
  return sum;
}

// Corners of the hulls of the k sections; only the ends of each row can be corners.
std::vector<GridPoint> SliceCorners(std::span<const RowRun> runs) {
  std::vector<GridPoint> corners;
  std::vector<GridPoint> slice;
  const auto close_slice = [&] {
    AppendHullCorners(slice, 2, corners);
    slice.clear();
  };
  for (std::size_t r = 0; r < runs.size();) {
    if (!slice.empty() && slice.front()[2] != runs[r].k) close_slice();
    std::size_t end = r;
    std::int32_t last_i = runs[r].last_i;
    while (end < runs.size() && runs[end].k == runs[r].k && runs[end].j == runs[r].j) {
      last_i = std::max(last_i, runs[end++].last_i);
    }
    slice.push_back({runs[r].first_i, runs[r].j, runs[r].k});
    if (last_i != runs[r].first_i) slice.push_back({last_i, runs[r].j, runs[r].k});
    r = end;
  }
  close_slice();
  return corners;
}

// Farthest pair of points. Points are visited from the outermost inwards: two points are no further apart
// than the sum of their distances from the centre, which ends the search early.
double FarthestPair(const std::vector<GridPoint>& points, const Frame& frame) {
  struct Item {
    Vector at{};
    double radius = 0;
  };
  Vector low;
  Vector high;
  low.fill(std::numeric_limits<double>::infinity());
  high.fill(-std::numeric_limits<double>::infinity());
  std::vector<Item> items;
  items.reserve(points.size());
  for (const GridPoint& point : points) {
    items.push_back({frame.Of(point), 0});
    for (std::size_t c = 0; c < 3; ++c) {
      low[c] = std::min(low[c], items.back().at[c]);
      high[c] = std::max(high[c], items.back().at[c]);
    }
  }
  const Vector centre{(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2};
  for (Item& item : items) item.radius = std::sqrt(SquaredDistance(item.at, centre));
  std::stable_sort(items.begin(), items.end(),
                   [](const Item& a, const Item& b) { return a.radius > b.radius; });
  constexpr double kRounding = 1 + 1e-9;  // bounds must not cut off the pair itself
  double best_squared = 0;
  double best = 0;
  for (std::size_t a = 0; a < items.size(); ++a) {
    if (2 * items[a].radius * kRounding < best) break;
    for (std::size_t b = a + 1; b < items.size(); ++b) {
      if ((items[a].radius + items[b].radius) * kRounding < best) break;
      const double squared = SquaredDistance(items[a].at, items[b].at);
      if (squared > best_squared) {
        best_squared = squared;
        best = std::sqrt(squared);
      }
    }
  }
  return best;
}

// Long and short axis of the points of one slice.
struct Axes {
  double long_mm = 0;
  double short_mm = 0;
};

Axes AxesOf(std::span<const GridPoint> corners, const Frame& frame) {
  double best_squared = -1;
  Vector direction{};
  std::vector<Vector> points;
  points.reserve(corners.size());
  for (const GridPoint& corner : corners) points.push_back(frame.Of(corner));
  for (std::size_t a = 0; a < points.size(); ++a) {
    for (std::size_t b = a + 1; b < points.size(); ++b) {
      const double squared = SquaredDistance(points[a], points[b]);
      if (squared > best_squared) {
        best_squared = squared;
        direction = {points[b][0] - points[a][0], points[b][1] - points[a][1], 0};
      }
    }
  }
  if (best_squared <= 0) return {};
  // Points of one slice differ in the frame's first two coordinates only.
  const double length = std::sqrt(best_squared);
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const Vector& point : points) {
    const double across = (point[1] * direction[0] - point[0] * direction[1]) / length;
    low = std::min(low, across);
    high = std::max(high, across);
  }
  return {length, high - low};
}

}  // namespace

Extent MeasureExtent(std::span<const RowRun> runs, const volume::Geometry& geometry) {
  Extent extent;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Vector low{kInfinity, kInfinity, kInfinity};
  Vector high{-kInfinity, -kInfinity, -kInfinity};
  std::array<double, 3> sums{};
  extent.first_ijk.fill(std::numeric_limits<std::int64_t>::max());
  extent.last_ijk.fill(-1);
  std::uint64_t slice_voxels = 0;
  std::uint64_t key_voxels = 0;
  std::int64_t slice_k = -1;
  for (const RowRun& run : runs) {
    const auto voxels = static_cast<std::uint64_t>(run.voxels());
    extent.voxels += voxels;
    const double count = static_cast<double>(voxels);
    sums[0] += (static_cast<double>(run.first_i) + static_cast<double>(run.last_i)) / 2 * count;
    sums[1] += static_cast<double>(run.j) * count;
    sums[2] += static_cast<double>(run.k) * count;
    const std::array<std::int64_t, 3> first{run.first_i, run.j, run.k};
    const std::array<std::int64_t, 3> last{run.last_i, run.j, run.k};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      extent.first_ijk[axis] = std::min(extent.first_ijk[axis], first[axis]);
      extent.last_ijk[axis] = std::max(extent.last_ijk[axis], last[axis]);
    }
    for (const std::int32_t i : {run.first_i, run.last_i}) {
      const volume::LpsPoint point =
          geometry.ToLps({{static_cast<double>(i), static_cast<double>(run.j), static_cast<double>(run.k)}});
      for (std::size_t c = 0; c < 3; ++c) {
        low[c] = std::min(low[c], point.mm[c]);
        high[c] = std::max(high[c], point.mm[c]);
      }
    }
    slice_voxels = run.k == slice_k ? slice_voxels + voxels : voxels;
    slice_k = run.k;
    if (slice_voxels > key_voxels) {
      key_voxels = slice_voxels;
      extent.key_slice_k = run.k;
    }
  }
  const double count = static_cast<double>(extent.voxels);
  extent.centroid_lps = geometry.ToLps({{sums[0] / count, sums[1] / count, sums[2] / count}});
  for (std::size_t c = 0; c < 3; ++c) {
    double half_voxel = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      half_voxel += std::abs(geometry.directions()[axis][c]) * geometry.spacing_mm()[axis] / 2;
    }
    extent.box_min_lps.mm[c] = low[c] - half_voxel;
    extent.box_max_lps.mm[c] = high[c] + half_voxel;
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    extent.extent_mm[axis] =
        static_cast<double>(extent.last_ijk[axis] - extent.first_ijk[axis] + 1) * geometry.spacing_mm()[axis];
    extent.touches_volume_edge = extent.touches_volume_edge || extent.first_ijk[axis] == 0 ||
                                 extent.last_ijk[axis] + 1 == geometry.size_ijk()[axis];
  }
  return extent;
}

Diameters MeasureDiameters(std::span<const RowRun> runs, const volume::Geometry& geometry) {
  const Frame frame(geometry);
  std::vector<GridPoint> corners = SliceCorners(runs);
  Diameters diameters;
  diameters.axes_slice_k = corners.front()[2];
  for (std::size_t begin = 0; begin < corners.size();) {
    std::size_t end = begin;
    while (end < corners.size() && corners[end][2] == corners[begin][2]) ++end;
    const Axes axes = AxesOf(std::span(corners).subspan(begin, end - begin), frame);
    if (axes.long_mm > diameters.long_axis_mm) {
      diameters.long_axis_mm = axes.long_mm;
      diameters.short_axis_mm = axes.short_mm;
      diameters.axes_slice_k = corners[begin][2];
    }
    begin = end;
  }
  // A corner of the whole hull is a corner in the sections along j and i too.
  for (const std::size_t axis : {std::size_t{1}, std::size_t{0}}) corners = SectionCorners(corners, axis);
  diameters.longest_3d_mm = FarthestPair(corners, frame);
  return diameters;
}

template <typename Label>
std::uint64_t CountSurfaceVoxels(std::span<const RowRun> runs, const LabelGrid<const Label>& grid) {
  const auto [slices, rows, columns] = grid.size_kji;
  const auto row_of = [&](std::int64_t k, std::int64_t j) -> const Label* {
    if (k < 0 || k >= slices || j < 0 || j >= rows) return nullptr;
    return grid.voxels.data() + static_cast<std::size_t>((k * rows + j) * columns);
  };
  std::uint64_t surface = 0;
  for (const RowRun& run : runs) {
    const Label label = row_of(run.k, run.j)[run.first_i];
    const std::array<const Label*, 4> neighbours{row_of(run.k, run.j - 1), row_of(run.k, run.j + 1),
                                                 row_of(run.k - 1, run.j), row_of(run.k + 1, run.j)};
    if (std::find(neighbours.begin(), neighbours.end(), nullptr) != neighbours.end()) {
      surface += static_cast<std::uint64_t>(run.voxels());
      continue;
    }
    for (std::int32_t i = run.first_i; i <= run.last_i; ++i) {
      const bool inside = i != run.first_i && i != run.last_i && neighbours[0][i] == label &&
                          neighbours[1][i] == label && neighbours[2][i] == label && neighbours[3][i] == label;
      surface += inside ? 0 : 1;
    }
  }
  return surface;
}

template std::uint64_t CountSurfaceVoxels<std::uint8_t>(std::span<const RowRun>,
                                                        const LabelGrid<const std::uint8_t>&);
template std::uint64_t CountSurfaceVoxels<std::uint16_t>(std::span<const RowRun>,
                                                         const LabelGrid<const std::uint16_t>&);

// The longer of a skewed face's or cell's diagonals.
double PixelDiagonalMm(const volume::Geometry& geometry) {
  const Frame frame(geometry);
  const Vector zero{};
  return std::sqrt(
      std::max(SquaredDistance(frame.Of(1, 1, 0), zero), SquaredDistance(frame.Of(1, -1, 0), zero)));
}

double VoxelDiagonalMm(const volume::Geometry& geometry) {
  const Frame frame(geometry);
  const Vector zero{};
  double longest = 0;
  for (const double j : {-1.0, 1.0}) {
    for (const double k : {-1.0, 1.0}) longest = std::max(longest, SquaredDistance(frame.Of(1, j, k), zero));
  }
  return std::sqrt(longest);
}

}  // namespace tomoserve::compute
