// Sizes and places of components in the patient. Distances are between voxel centres: a single voxel has
// diameter 0, and the true extent is longer by at most one voxel diagonal.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "tomoserve/compute/components.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::compute {

// What follows from counting and from the box.
struct Extent {
  std::uint64_t voxels = 0;
  volume::LpsPoint centroid_lps;      // of all voxel centres
  volume::LpsPoint box_min_lps;       // voxel edges included
  volume::LpsPoint box_max_lps;       // voxel edges included
  std::array<double, 3> extent_mm{};  // along i, j, k, voxel edges included
  std::array<std::int64_t, 3> first_ijk{};
  std::array<std::int64_t, 3> last_ijk{};  // inclusive
  std::int64_t key_slice_k = 0;            // most voxels; the lowest of equals
  bool touches_volume_edge = false;        // a voxel lies on a face of the grid
};

// Diameters.
struct Diameters {
  double longest_3d_mm = 0;  // farthest two voxel centres
  double long_axis_mm = 0;   // farthest two voxel centres of one k slice, on the slice where that is largest
  double short_axis_mm = 0;  // width of the same slice's voxel centres perpendicular to the long axis
  std::int64_t axes_slice_k = 0;  // that slice; the lowest of equals
};

// `runs` are one object's, at least one, in k, j, i order.
Extent MeasureExtent(std::span<const RowRun> runs, const volume::Geometry& geometry);

// Exact: the farthest pair are corners of the convex hull, so only voxels that are corners of the hull of
// their own k, j and i section are compared. `runs` as above.
Diameters MeasureDiameters(std::span<const RowRun> runs, const volume::Geometry& geometry);

// Voxels of the object with a face neighbour of another label or outside the grid.
template <typename Label>
std::uint64_t CountSurfaceVoxels(std::span<const RowRun> runs, const LabelGrid<const Label>& grid);

// Length of a voxel's diagonal in space and of its i, j face, mm.
double VoxelDiagonalMm(const volume::Geometry& geometry);
double PixelDiagonalMm(const volume::Geometry& geometry);

}  // namespace tomoserve::compute
