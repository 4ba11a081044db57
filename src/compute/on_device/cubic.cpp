#include "compute/on_device/cubic.h"

#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/matmul.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

#include "compute/cubic.h"
#include "compute/on_device/staging.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

// Outputs of one product: few enough that little of the matrix is 0.
constexpr std::int64_t kOutputs = 64;
// How far a value reaches into the coefficients: z^24 is 2e-14.
constexpr std::int64_t kReach = 24;

// Weights of inputs [first, first + count) in outputs [0, rows).
struct Block {
  std::int64_t first = 0;
  std::int64_t count = 0;
  at::Tensor weights;  // float32 [rows][count]
};

// The prefilter's answer to one value is sqrt(3) z^|d|; what lies beyond an end is the end's.
Block BlockOf(const AxisTable& table, std::int64_t output, std::int64_t rows, at::Device device) {
  const auto place = [&](std::int64_t row) { return table.place[static_cast<std::size_t>(output + row)]; };
  const auto clamped = [&](std::int64_t index) {
    return std::clamp<std::int64_t>(index, 0, table.in_size - 1);
  };
  // Places rise, or fall where the axis is flipped.
  const double lowest = std::min(place(0), place(rows - 1));
  const double highest = std::max(place(0), place(rows - 1));
  Block block;
  block.first = clamped(TapsAt(lowest).first - kReach);
  block.count = clamped(TapsAt(highest).first + 3 + kReach) - block.first + 1;
  std::vector<double> sums(static_cast<std::size_t>(rows * block.count));
  for (std::int64_t row = 0; row < rows; ++row) {
    const SplineTaps taps = TapsAt(place(row));
    for (std::int64_t tap = 0; tap < 4; ++tap) {
      const double weight = taps.weights[static_cast<std::size_t>(tap)] * std::sqrt(3.0);
      for (std::int64_t d = -kReach; d <= kReach; ++d) {
        const std::int64_t input = clamped(taps.first + tap + d) - block.first;
        sums[static_cast<std::size_t>(row * block.count + input)] +=
            weight * std::pow(kSplinePole, static_cast<double>(std::abs(d)));
      }
    }
  }
  const std::vector<float> weights(sums.begin(), sums.end());
  block.weights = ToDevice<float>(weights, device).view({rows, block.count});
  return block;
}

at::Tensor EmptyLike(const at::Tensor& array, std::size_t axis, std::int64_t size) {
  std::vector<std::int64_t> sizes = array.sizes().vec();
  sizes[axis] = size;
  return at::empty(sizes, array.options());
}

// Outputs of `part`, slices of which the axis is another one, or all of it.
at::Tensor Product(const Block& block, const at::Tensor& part, std::size_t axis) {
  const at::Tensor inputs = part.narrow(static_cast<std::int64_t>(axis), block.first, block.count);
  switch (axis) {
    case 0:
      return block.weights.matmul(inputs.reshape({block.count, -1}))
          .view({block.weights.size(0), part.size(1), part.size(2)});
    case 1:
      return block.weights.matmul(inputs);
    default:
      return inputs.matmul(block.weights.t());
  }
}

at::Tensor Spline(const at::Tensor& source, std::size_t axis, const AxisTable& table) {
  const at::Tensor result = EmptyLike(source, axis, table.out_size());
  const std::int64_t plane = source.size(1) * source.size(2);
  const std::int64_t outputs = axis == 0 ? std::min(kOutputs, SlicesOfChunk(plane)) : kOutputs;
  ForRanges(table.out_size(), outputs, [&](std::int64_t output, std::int64_t rows) {
    const Block block = BlockOf(table, output, rows, source.device());
    const at::Tensor out = result.narrow(static_cast<std::int64_t>(axis), output, rows);
    if (axis == 0) {
      out.copy_(Product(block, source, axis));
      return;
    }
    const std::int64_t slice = std::max(plane / source.size(static_cast<std::int64_t>(axis)) * rows, plane);
    ForRanges(source.size(0), SlicesOfChunk(slice), [&](std::int64_t first, std::int64_t count) {
      out.narrow(0, first, count).copy_(Product(block, source.narrow(0, first, count), axis));
    });
  });
  return result;
}

at::Tensor Pick(const at::Tensor& source, std::size_t axis, const AxisTable& table) {
  const std::vector<std::int64_t> indices(table.nearest.begin(), table.nearest.end());
  return source.index_select(static_cast<std::int64_t>(axis),
                             ToDevice<std::int64_t>(indices, source.device()));
}

// Lowest and highest value of each plane across an axis (kept as dimensions of one), or of the whole. Nobody
// waits for them.
std::array<at::Tensor, 2> RangesOf(const at::Tensor& array, int plane_axis) {
  std::vector<std::int64_t> over;
  for (int axis = 0; axis < 3; ++axis) {
    if (axis != plane_axis) over.push_back(axis);
  }
  return {at::amin(array, over, /*keepdim=*/true), at::amax(array, over, /*keepdim=*/true)};
}

}  // namespace

at::Tensor ResampleCubic(at::Tensor source, const GridMap& map) {
  at::Tensor array = std::move(source);
  std::array<at::Tensor, 2> ranges;
  for (const CubicPass& pass : CubicPasses(map)) {
    switch (pass.kind) {
      case CubicPass::Kind::kPick:
        array = Pick(array, pass.axis, map[pass.axis]);
        break;
      case CubicPass::Kind::kSpline:
        array = Spline(array, pass.axis, map[pass.axis]);
        break;
      case CubicPass::Kind::kRange:
        ranges = RangesOf(array, PlaneAxis(map));
        break;
      case CubicPass::Kind::kClip:
        array.clamp_(ranges[0], ranges[1]);
        break;
    }
  }
  return array;
}

}  // namespace tomoserve::compute::on_device
