// Which voxels of one grid are read for each voxel of another, axis by axis: reorientation and the spacing
// rules of MONAI and nnU-Net never mix axes, so three tables say all.
//
// A prepared volume (the "model grid") has logical axes x, y, z but lies in memory in the order of the
// volume's own axes: its dimension d belongs to the volume's axis 2 - d (k, j, i). Flips and scaling are in
// the tables, the permutation is only in the view (LogicalView), so both directions run along memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "tomoserve/volume/geometry.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::compute {

// Where each output index of one dimension reads: between `low` and `high`, `high` with `high_weight`.
struct AxisTable {
  std::int64_t in_size = 1;
  std::vector<std::int32_t> low;
  std::vector<std::int32_t> high;
  std::vector<float> high_weight;
  std::vector<std::int32_t> nearest;
  std::vector<double> place;  // where it lies in input voxels, not clamped to them: for wider kernels
  bool by_nearest = false;    // whatever the interpolation: low, high and weight say nearest too
  bool identity = true;       // output o reads exactly input o, and the sizes are equal
  bool exact = true;          // every weight is 0: nothing is interpolated
  std::int64_t out_size() const { return static_cast<std::int64_t>(low.size()); }
};

// Output index o lies at input coordinate (flip_output ? out_size - 1 - o : o) * step, clamped to the input's
// voxel centres ("border"); flip_input then counts input indices from the other end. Nearest is half to even.
AxisTable MakeAxisTable(std::int64_t in_size, std::int64_t out_size, double step, bool flip_input,
                        bool flip_output);

// nnU-Net's: both grids have the same edges, so that output o lies at (o + 0.5) * in_size / out_size - 0.5.
// Nearest is half up. Flips as above.
AxisTable MakeEdgeTable(std::int64_t in_size, std::int64_t out_size, bool by_nearest, bool flip_input,
                        bool flip_output);

// Tables by tensor dimension, slowest first.
using GridMap = std::array<AxisTable, 3>;

// The prepared grid of a volume.
struct ModelGrid {
  volume::Reorientation reorientation;
  volume::Geometry geometry;  // its i, j, k are the recipe's x, y, z
  bool same_edges = false;    // as the volume: nnU-Net's rule; else the same first voxel centres
  // The one of x, y, z that is read by nearest whatever the interpolation.
  std::optional<std::size_t> nearest_to_model = std::nullopt;
  std::optional<std::size_t> nearest_to_volume = std::nullopt;
};

// Reads the volume [k][j][i] for each voxel of the model grid (memory order, see above).
GridMap MapToModel(const volume::Geometry& volume, const ModelGrid& model);

// Reads the model grid for each voxel of the volume: MONAI's Invertd of the same transforms, nnU-Net's
// export.
GridMap MapToVolume(const volume::Geometry& volume, const ModelGrid& model);

// Sizes of the model grid's tensor in memory order.
std::array<std::int64_t, 3> MemorySize(const ModelGrid& model);

// View [..., x, y, z] of a tensor [..., d0, d1, d2] in the model grid's memory order.
at::Tensor LogicalView(const at::Tensor& tensor, const ModelGrid& model);

}  // namespace tomoserve::compute
