#include "tomoserve/compute/on_device/resample.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "compute/on_device/staging.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

at::Tensor Indices(const std::vector<std::int32_t>& table, at::Device device) {
  const std::vector<std::int64_t> wide(table.begin(), table.end());
  return ToDevice<std::int64_t>(wide, device);
}

// low + weight * (high - low) into `high`.
at::Tensor Mix(const at::Tensor& low, const at::Tensor& high, const at::Tensor& high_weight) {
  return high.sub_(low).mul_(high_weight).add_(low);
}

}  // namespace

TensorMap::TensorMap(const GridMap& map, v1::Interpolation interpolation, at::Device device) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const AxisTable& table = map[axis];
    const bool mixed = interpolation == v1::INTERPOLATION_LINEAR && !table.exact;
    axes_[axis].in_size = table.in_size;
    axes_[axis].identity = table.identity;
    axes_[axis].low = Indices(mixed ? table.low : table.nearest, device);
    if (mixed) {
      axes_[axis].high = Indices(table.high, device);
      axes_[axis].high_weight = ToDevice<float>(table.high_weight, device);
    }
    size_[axis] = table.out_size();
  }
}

at::Tensor TensorMap::Read(const at::Tensor& source, std::int64_t first, std::int64_t count) const {
  at::Tensor read = source;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const Axis& table = axes_[axis];
    const std::int64_t dimension = source.dim() - 3 + static_cast<std::int64_t>(axis);
    const std::int64_t begin = axis == 0 ? first : 0;
    const std::int64_t size = axis == 0 ? count : size_[axis];
    if (table.identity) {
      read = read.narrow(dimension, begin, size);
      continue;
    }
    const auto at_indices = [&](const at::Tensor& indices) {
      return read.index_select(dimension, indices.narrow(0, begin, size));
    };
    if (!table.high.defined()) {
      read = at_indices(table.low);
      continue;
    }
    // Labels are mixed as numbers, too.
    const at::Tensor low = at_indices(table.low).to(at::kFloat);
    const at::Tensor high = at_indices(table.high).to(at::kFloat);
    std::vector<std::int64_t> along(3 - axis, 1);
    along[0] = size;
    read = Mix(low, high, table.high_weight.narrow(0, begin, size).view(along));
  }
  return read;
}

at::Tensor TensorMap::At(const at::Tensor& source, const std::array<at::Tensor, 3>& kji) const {
  return MixedAt(source.view({source.size(0), -1}), kji, 2, {});
}

// `flat` read at `offset` plus what the axes up to `axis` add, mixed along them.
at::Tensor TensorMap::MixedAt(const at::Tensor& flat, const std::array<at::Tensor, 3>& kji, int axis,
                              const at::Tensor& offset) const {
  if (axis < 0) return flat.index_select(1, offset);
  const Axis& table = axes_[static_cast<std::size_t>(axis)];
  const at::Tensor& place = kji[static_cast<std::size_t>(axis)];
  std::int64_t stride = 1;
  for (std::size_t inner = static_cast<std::size_t>(axis) + 1; inner < 3; ++inner)
    stride *= axes_[inner].in_size;
  const auto read = [&](const at::Tensor& indices) {
    const at::Tensor own = indices.index_select(0, place).mul_(stride);
    return MixedAt(flat, kji, axis - 1, offset.defined() ? own.add(offset) : own);
  };
  const at::Tensor low = read(table.low);
  if (!table.high.defined()) return low;
  return Mix(low, read(table.high), table.high_weight.index_select(0, place));
}

at::Tensor TensorMap::ReadAll(const at::Tensor& source) const {
  const at::Tensor out = at::empty(size_, source.options());
  ForRanges(size_[0], SlicesAtOnce(1), [&](std::int64_t first, std::int64_t count) {
    out.narrow(0, first, count).copy_(Read(source, first, count));
  });
  return out;
}

std::int64_t TensorMap::largest_plane() const {
  return std::max({axes_[1].in_size * axes_[2].in_size, size_[1] * axes_[2].in_size, size_[1] * size_[2]});
}

std::int64_t TensorMap::SlicesAtOnce(std::int64_t channels) const {
  return std::min(SlicesOfChunk(channels * largest_plane()), std::max<std::int64_t>(size_[0], 1));
}

}  // namespace tomoserve::compute::on_device
