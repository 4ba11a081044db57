#include "tomoserve/compute/open_sums.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace tomoserve::compute {
namespace {

// The different starts of windows' outputs along an axis, ascending.
std::vector<std::int64_t> StartsAlong(const WindowPlan& windows, std::size_t axis) {
  std::vector<std::int64_t> starts;
  for (const Xyz& start : windows.starts) starts.push_back(start[axis] + windows.output_offset[axis]);
  std::sort(starts.begin(), starts.end());
  starts.erase(std::unique(starts.begin(), starts.end()), starts.end());
  return starts;
}

// Cells of an axis that a window from `start` on touches: the first and the one past the last.
std::array<std::size_t, 2> Touched(const volume::AxisCells& axis, std::int64_t start, std::int64_t window) {
  const auto& bounds = axis.bounds;
  const auto first = std::upper_bound(bounds.begin() + 1, bounds.end(), start) - bounds.begin() - 1;
  const auto past_last = std::lower_bound(bounds.begin(), bounds.end() - 1, start + window) - bounds.begin();
  return {static_cast<std::size_t>(first), static_cast<std::size_t>(past_last)};
}

std::uint64_t VoxelsOf(const FinalCell& cell) {
  return static_cast<std::uint64_t>(cell.sums.numel() / cell.sums.size(0));
}

// Zeros [channels][x][y][z], dense, the axes in memory in the order that they have in `like` [c][x][y][z].
at::Tensor ZerosLike(std::int64_t channels, const Xyz& size, const at::Tensor& like) {
  std::array<std::int64_t, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return like.stride(1 + a) > like.stride(1 + b); });
  std::array<std::int64_t, 4> sizes{channels};
  std::array<std::int64_t, 4> back{0};
  for (std::size_t place = 0; place < 3; ++place) {
    const auto axis = static_cast<std::size_t>(order[place]);
    sizes[1 + place] = size[axis];
    back[1 + axis] = static_cast<std::int64_t>(1 + place);
  }
  return at::zeros(sizes, at::kFloat).permute(back);
}

}  // namespace

OpenSums::OpenSums(const Xyz& size, const WindowPlan& windows, std::int64_t channels, at::Tensor importance,
                   bool weighted)
    : windows_(windows), channels_(channels), importance_(std::move(importance)) {
  const Xyz& window = windows.output_size;
  if (weighted) {
    weights_of_window_ =
        importance_.defined() ? importance_ : at::full({window[0], window[1], window[2]}, 1, at::kFloat);
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    axes_[axis] = volume::CellsOf(StartsAlong(windows, axis), window[axis], size[axis]);
  }
}

OpenSums::OpenCell OpenSums::Open(const std::array<std::size_t, 3>& cell, const at::Tensor& output) const {
  OpenCell open{{}, 1};
  Xyz size{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const volume::AxisCells& cells = axes_[axis];
    open.cell.begin[axis] = cells.bounds[cell[axis]];
    size[axis] = cells.Size(cell[axis]);
    open.windows_left *= cells.last[cell[axis]] - cells.first[cell[axis]] + 1;
  }
  open.cell.sums = ZerosLike(channels_, size, output);
  if (weights_of_window_.defined()) open.cell.weights = ZerosLike(1, size, output).squeeze(0);
  return open;
}

void OpenSums::Add(std::uint32_t window, const at::Tensor& output,
                   const std::function<void(FinalCell)>& use) {
  Xyz start = windows_.starts[window];
  std::array<std::array<std::size_t, 2>, 3> touched{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    start[axis] += windows_.output_offset[axis];
    touched[axis] = Touched(axes_[axis], start[axis], windows_.output_size[axis]);
  }
  for (std::size_t x = touched[0][0]; x < touched[0][1]; ++x) {
    for (std::size_t y = touched[1][0]; y < touched[1][1]; ++y) {
      for (std::size_t z = touched[2][0]; z < touched[2][1]; ++z) {
        const std::array<std::size_t, 3> number{x, y, z};
        auto found = open_.find(number);
        if (found == open_.end()) {
          found = open_.emplace(number, Open(number, output)).first;
          open_voxels_ += VoxelsOf(found->second.cell);
          most_open_voxels_ = std::max(most_open_voxels_, open_voxels_);
        }
        FinalCell& cell = found->second.cell;
        const Xyz in_cell{start[0] - axes_[0].bounds[x], start[1] - axes_[1].bounds[y],
                          start[2] - axes_[2].bounds[z]};
        AddWindow(output, importance_, in_cell, cell.sums);
        if (cell.weights.defined()) AddWindow(weights_of_window_, {}, in_cell, cell.weights);
        if (--found->second.windows_left > 0) continue;
        open_voxels_ -= VoxelsOf(cell);
        FinalCell done = std::move(cell);
        open_.erase(found);
        use(std::move(done));
      }
    }
  }
}

}  // namespace tomoserve::compute
