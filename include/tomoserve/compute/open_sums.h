// Sums of windows, held only for those cells of the model grid (volume/window_cells.h) that later windows
// still add to.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>

#include "tomoserve/compute/windows.h"
#include "tomoserve/volume/window_cells.h"

namespace tomoserve::compute {

// A cell to which no window will add any more. Its tensors are dense, all channels and the weights with the
// same strides along x, y, z: the outputs' order of the axes, so that adding runs along memory.
struct FinalCell {
  Xyz begin{};         // in the model grid
  at::Tensor sums;     // [C][x][y][z] float32, as AddWindow makes them
  at::Tensor weights;  // [x][y][z], as AddWeights makes them; undefined without
};

// Confined to one thread. On the CPU.
class OpenSums {
 public:
  // `size`: of the model grid, along x, y, z. `importance` [x][y][z] of a window (undefined: 1) and whether
  // weights are summed. The plan's windows are all combinations of the starts of each axis.
  OpenSums(const Xyz& size, const WindowPlan& windows, std::int64_t channels, at::Tensor importance,
           bool weighted);

  // Adds the output [c][x][y][z] (any strides; changed) of the plan's window `window` and calls use(cell) for
  // each cell that is final now. Each window once, in any order; sums depend on it as those of AddWindow.
  void Add(std::uint32_t window, const at::Tensor& output, const std::function<void(FinalCell)>& use);

  std::uint64_t open_voxels() const { return open_voxels_; }
  std::uint64_t most_open_voxels() const { return most_open_voxels_; }  // so far, while a window was added

 private:
  struct OpenCell {
    FinalCell cell;
    std::size_t windows_left = 0;
  };
  // In memory as `output`, whose dimensions are [c][x][y][z].
  OpenCell Open(const std::array<std::size_t, 3>& cell, const at::Tensor& output) const;

  const WindowPlan& windows_;
  std::int64_t channels_;
  at::Tensor importance_;
  at::Tensor weights_of_window_;           // undefined without weights
  std::array<volume::AxisCells, 3> axes_;  // x, y, z
  std::map<std::array<std::size_t, 3>, OpenCell> open_;
  std::uint64_t open_voxels_ = 0;
  std::uint64_t most_open_voxels_ = 0;
};

}  // namespace tomoserve::compute
