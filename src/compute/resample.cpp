#include "tomoserve/compute/resample.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <string>
#include <utility>

#include "compute/cubic.h"
#include "compute/on_device/cubic.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/on_device/resample.h"

namespace tomoserve::compute {
namespace {

float Mix(float low, float high, float high_weight) { return low + high_weight * (high - low); }

// out = low + weight * (high - low), n values.
void MixRows(const float* low, const float* high, float weight, float* __restrict out, std::size_t n) {
  for (std::size_t v = 0; v < n; ++v) out[v] = Mix(low[v], high[v], weight);
}

template <typename Value>
void ReadNearest(const Value* source, const GridMap& map, std::size_t slice, Value* out) {
  const std::size_t row_size = static_cast<std::size_t>(map[2].in_size);
  const std::size_t plane_size = row_size * static_cast<std::size_t>(map[1].in_size);
  const Value* const plane = source + static_cast<std::size_t>(map[0].nearest[slice]) * plane_size;
  const std::size_t columns = map[2].nearest.size();
  for (std::size_t d1 = 0; d1 < map[1].nearest.size(); ++d1, out += columns) {
    const Value* const row = plane + static_cast<std::size_t>(map[1].nearest[d1]) * row_size;
    if (map[2].identity) {
      std::copy_n(row, columns, out);
    } else {
      for (std::size_t d2 = 0; d2 < columns; ++d2) out[d2] = row[map[2].nearest[d2]];
    }
  }
}

// As SliceReader::ReadLinear, between the values of labels; what lies between two whole numbers is cut.
template <typename Label>
void ReadLinearLabels(const Label* source, const GridMap& map, std::size_t slice, Label* out,
                      std::vector<float>& scratch) {
  const auto row_size = static_cast<std::size_t>(map[2].in_size);
  const std::size_t plane_size = row_size * static_cast<std::size_t>(map[1].in_size);
  scratch.resize(plane_size + row_size);
  const auto mix = [](const auto* low, const auto* high, float weight, float* to, std::size_t n) {
    for (std::size_t v = 0; v < n; ++v) {
      to[v] = Mix(static_cast<float>(low[v]), static_cast<float>(high[v]), weight);
    }
  };
  mix(source + static_cast<std::size_t>(map[0].low[slice]) * plane_size,
      source + static_cast<std::size_t>(map[0].high[slice]) * plane_size, map[0].high_weight[slice],
      scratch.data(), plane_size);
  float* const row = scratch.data() + plane_size;
  for (std::size_t d1 = 0; d1 < map[1].low.size(); ++d1, out += map[2].low.size()) {
    mix(scratch.data() + static_cast<std::size_t>(map[1].low[d1]) * row_size,
        scratch.data() + static_cast<std::size_t>(map[1].high[d1]) * row_size, map[1].high_weight[d1], row,
        row_size);
    for (std::size_t d2 = 0; d2 < map[2].low.size(); ++d2) {
      out[d2] = static_cast<Label>(Mix(row[map[2].low[d2]], row[map[2].high[d2]], map[2].high_weight[d2]));
    }
  }
}

bool Identity(const GridMap& map) {
  return std::all_of(map.begin(), map.end(), [](const AxisTable& table) { return table.identity; });
}

}  // namespace

SliceReader::SliceReader(std::span<const float> source, const GridMap& map, v1::Interpolation interpolation)
    : source_(source), map_(map), linear_(interpolation == v1::INTERPOLATION_LINEAR) {
  // Where nothing lies between voxels both are the same, and nearest is faster.
  linear_ = linear_ && !(map[0].exact && map[1].exact && map[2].exact);
}

void SliceReader::Read(std::int64_t slice, std::span<float> out, std::vector<float>& scratch) const {
  if (linear_) return ReadLinear(slice, out, scratch);
  ReadNearest(source_.data(), map_, static_cast<std::size_t>(slice), out.data());
}

void SliceReader::ReadLinear(std::int64_t slice, std::span<float> out, std::vector<float>& scratch) const {
  const AxisTable& across = map_[0];
  const AxisTable& down = map_[1];
  const AxisTable& along = map_[2];
  const auto row_size = static_cast<std::size_t>(along.in_size);
  const std::size_t plane_size = row_size * static_cast<std::size_t>(down.in_size);
  scratch.resize(plane_size + row_size);

  const auto at = static_cast<std::size_t>(slice);
  const float* plane = source_.data() + static_cast<std::size_t>(across.low[at]) * plane_size;
  if (across.high_weight[at] != 0) {
    const float* const high = source_.data() + static_cast<std::size_t>(across.high[at]) * plane_size;
    MixRows(plane, high, across.high_weight[at], scratch.data(), plane_size);
    plane = scratch.data();
  }
  float* const mixed_row = scratch.data() + plane_size;
  const std::size_t columns = along.low.size();
  float* to = out.data();
  for (std::size_t d1 = 0; d1 < down.low.size(); ++d1, to += columns) {
    const float* row = plane + static_cast<std::size_t>(down.low[d1]) * row_size;
    if (down.high_weight[d1] != 0) {
      MixRows(row, plane + static_cast<std::size_t>(down.high[d1]) * row_size, down.high_weight[d1],
              mixed_row, row_size);
      row = mixed_row;
    }
    if (along.identity) {
      std::copy_n(row, columns, to);
      continue;
    }
    for (std::size_t d2 = 0; d2 < columns; ++d2) {
      to[d2] = Mix(row[along.low[d2]], row[along.high[d2]], along.high_weight[d2]);
    }
  }
}

float SliceReader::At(std::int64_t d0, std::int64_t d1, std::int64_t d2) const {
  const auto a = static_cast<std::size_t>(d0);
  const auto b = static_cast<std::size_t>(d1);
  const auto c = static_cast<std::size_t>(d2);
  const auto row_size = static_cast<std::size_t>(map_[2].in_size);
  const std::size_t plane_size = row_size * static_cast<std::size_t>(map_[1].in_size);
  const auto voxel = [&](std::int32_t k, std::int32_t j, std::int32_t i) {
    return source_[static_cast<std::size_t>(k) * plane_size + static_cast<std::size_t>(j) * row_size +
                   static_cast<std::size_t>(i)];
  };
  if (!linear_) return voxel(map_[0].nearest[a], map_[1].nearest[b], map_[2].nearest[c]);
  const auto mixed_across = [&](std::int32_t j, std::int32_t i) {
    return Mix(voxel(map_[0].low[a], j, i), voxel(map_[0].high[a], j, i), map_[0].high_weight[a]);
  };
  const auto mixed_down = [&](std::int32_t i) {
    return Mix(mixed_across(map_[1].low[b], i), mixed_across(map_[1].high[b], i), map_[1].high_weight[b]);
  };
  return Mix(mixed_down(map_[2].low[c]), mixed_down(map_[2].high[c]), map_[2].high_weight[c]);
}

template <typename Label>
absl::Status ResampleLabels(std::span<const Label> source, const GridMap& map,
                            v1::Interpolation interpolation, std::span<Label> out, const Parallel& parallel) {
  const std::size_t slice_size = map[1].nearest.size() * map[2].nearest.size();
  const bool linear =
      interpolation == v1::INTERPOLATION_LINEAR && !(map[0].exact && map[1].exact && map[2].exact);
  std::vector<std::vector<float>> scratch(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  return ParallelFor(parallel, map[0].out_size(), [&](std::int64_t slice, int worker) {
    const auto at = static_cast<std::size_t>(slice);
    Label* const of_slice = out.data() + at * slice_size;
    if (linear) {
      ReadLinearLabels(source.data(), map, at, of_slice, scratch[static_cast<std::size_t>(worker)]);
    } else {
      ReadNearest(source.data(), map, at, of_slice);
    }
  });
}

template absl::Status ResampleLabels<std::uint8_t>(std::span<const std::uint8_t>, const GridMap&,
                                                   v1::Interpolation, std::span<std::uint8_t>,
                                                   const Parallel&);
template absl::Status ResampleLabels<std::uint16_t>(std::span<const std::uint16_t>, const GridMap&,
                                                    v1::Interpolation, std::span<std::uint16_t>,
                                                    const Parallel&);

absl::StatusOr<at::Tensor> Resample(at::Tensor source, const GridMap& map, v1::Interpolation interpolation,
                                    const Parallel& parallel, const Placement& placement) {
  const bool cubic = interpolation == v1::INTERPOLATION_CUBIC;
  if (!cubic && interpolation != v1::INTERPOLATION_LINEAR && interpolation != v1::INTERPOLATION_NEAREST) {
    return base::Error(absl::StatusCode::kInvalidArgument, "INTERPOLATION_UNSUPPORTED",
                       v1::Interpolation_Name(interpolation), "only NEAREST, LINEAR and CUBIC are supported");
  }
  if (source.device().type() != placement.device.type() || source.scalar_type() != at::kFloat ||
      !source.is_contiguous() || source.dim() != 3 || source.size(0) != map[0].in_size ||
      source.size(1) != map[1].in_size || source.size(2) != map[2].in_size) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RESAMPLE_SHAPE", "",
                       "the volume is not a contiguous float32 array of the map's input sizes");
  }
  if (Identity(map)) return source;
  if (!placement.UsesLoops()) {
    TS_RETURN_IF_ERROR(CheckCancelled(parallel));
    return Fenced([&]() -> absl::StatusOr<at::Tensor> {
      if (cubic) return on_device::ResampleCubic(std::move(source), map);
      return on_device::TensorMap(map, interpolation, placement.device).ReadAll(source);
    });
  }
  return Fenced([&]() -> absl::StatusOr<at::Tensor> {
    if (cubic) return ResampleCubic(std::move(source), map, parallel);
    at::Tensor out = at::empty({map[0].out_size(), map[1].out_size(), map[2].out_size()}, at::kFloat);
    const auto slice_size = static_cast<std::size_t>(map[1].out_size() * map[2].out_size());
    const std::span<float> voxels(out.mutable_data_ptr<float>(), static_cast<std::size_t>(out.numel()));
    const SliceReader reader({source.const_data_ptr<float>(), static_cast<std::size_t>(source.numel())}, map,
                             interpolation);
    std::vector<std::vector<float>> scratch(static_cast<std::size_t>(std::max(parallel.threads, 1)));
    TS_RETURN_IF_ERROR(ParallelFor(parallel, map[0].out_size(), [&](std::int64_t slice, int worker) {
      reader.Read(slice, voxels.subspan(static_cast<std::size_t>(slice) * slice_size, slice_size),
                  scratch[static_cast<std::size_t>(worker)]);
    }));
    return out;
  });
}

}  // namespace tomoserve::compute
