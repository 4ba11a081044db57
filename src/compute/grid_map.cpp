#include "tomoserve/compute/grid_map.h"

#include <algorithm>
#include <cmath>

namespace tomoserve::compute {
namespace {

// The model axis that runs along a volume axis.
std::size_t ModelAxisOf(const volume::Reorientation& reorientation, std::size_t volume_axis) {
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (static_cast<std::size_t>(reorientation.source_axis[axis]) == volume_axis) return axis;
  }
  return volume_axis;
}

// `place_of(o)` and `nearest_of(coordinate)` count without flips; the coordinate is clamped to the input.
template <typename PlaceOf, typename NearestOf>
AxisTable MakeTable(std::int64_t in_size, std::int64_t out_size, bool flip_input, bool flip_output,
                    PlaceOf place_of, NearestOf nearest_of, bool by_nearest) {
  AxisTable table;
  table.in_size = in_size;
  table.by_nearest = by_nearest;
  const auto size = static_cast<std::size_t>(out_size);
  table.low.resize(size);
  table.high.resize(size);
  table.high_weight.resize(size);
  table.nearest.resize(size);
  table.place.resize(size);
  table.identity = in_size == out_size;
  const double last = static_cast<double>(in_size - 1);
  const auto in_index = [&](std::int64_t index) {
    return static_cast<std::int32_t>(flip_input ? in_size - 1 - index : index);
  };
  for (std::int64_t o = 0; o < out_size; ++o) {
    const double place = place_of(static_cast<double>(flip_output ? out_size - 1 - o : o));
    const double coordinate = std::clamp(place, 0.0, last);
    const double nearest = nearest_of(coordinate);
    const auto low = static_cast<std::int64_t>(by_nearest ? nearest : std::floor(coordinate));
    const auto weight = by_nearest ? 0 : static_cast<float>(coordinate - static_cast<double>(low));
    const auto at = static_cast<std::size_t>(o);
    table.low[at] = in_index(low);
    table.high[at] = in_index(by_nearest ? low : std::min(low + 1, in_size - 1));
    table.high_weight[at] = weight;
    table.nearest[at] = in_index(static_cast<std::int64_t>(nearest));
    table.place[at] = flip_input ? last - place : place;
    table.exact = table.exact && weight == 0;
    table.identity = table.identity && weight == 0 && table.low[at] == o;
  }
  return table;
}

AxisTable TableOf(const ModelGrid& model, bool to_model, std::size_t axis, std::int64_t in_size,
                  std::int64_t out_size, double step) {
  const bool flip = model.reorientation.flip[axis];
  if (!model.same_edges) return MakeAxisTable(in_size, out_size, step, to_model && flip, !to_model && flip);
  const std::optional<std::size_t>& nearest = to_model ? model.nearest_to_model : model.nearest_to_volume;
  return MakeEdgeTable(in_size, out_size, nearest == axis, to_model && flip, !to_model && flip);
}

}  // namespace

AxisTable MakeAxisTable(std::int64_t in_size, std::int64_t out_size, double step, bool flip_input,
                        bool flip_output) {
  // nearbyint rounds half to even in the default rounding mode.
  return MakeTable(
      in_size, out_size, flip_input, flip_output, [step](double o) { return o * step; },
      [](double coordinate) { return std::nearbyint(coordinate); }, /*by_nearest=*/false);
}

AxisTable MakeEdgeTable(std::int64_t in_size, std::int64_t out_size, bool by_nearest, bool flip_input,
                        bool flip_output) {
  const double step = static_cast<double>(in_size) / static_cast<double>(out_size);
  return MakeTable(
      in_size, out_size, flip_input, flip_output, [step](double o) { return step * (o + 0.5) - 0.5; },
      [](double coordinate) { return std::floor(coordinate + 0.5); }, by_nearest);
}

GridMap MapToModel(const volume::Geometry& volume, const ModelGrid& model) {
  GridMap map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::size_t to = ModelAxisOf(model.reorientation, axis);
    map[2 - axis] =
        TableOf(model, /*to_model=*/true, to, volume.size_ijk()[axis], model.geometry.size_ijk()[to],
                model.geometry.spacing_mm()[to] / volume.spacing_mm()[axis]);
  }
  return map;
}

GridMap MapToVolume(const volume::Geometry& volume, const ModelGrid& model) {
  GridMap map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::size_t from = ModelAxisOf(model.reorientation, axis);
    map[2 - axis] =
        TableOf(model, /*to_model=*/false, from, model.geometry.size_ijk()[from], volume.size_ijk()[axis],
                volume.spacing_mm()[axis] / model.geometry.spacing_mm()[from]);
  }
  return map;
}

std::array<std::int64_t, 3> MemorySize(const ModelGrid& model) {
  std::array<std::int64_t, 3> size{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    size[2 - axis] = model.geometry.size_ijk()[ModelAxisOf(model.reorientation, axis)];
  }
  return size;
}

at::Tensor LogicalView(const at::Tensor& tensor, const ModelGrid& model) {
  const std::int64_t leading = tensor.dim() - 3;
  std::vector<std::int64_t> order;
  for (std::int64_t dimension = 0; dimension < leading; ++dimension) order.push_back(dimension);
  for (const int source : model.reorientation.source_axis) order.push_back(leading + 2 - source);
  return tensor.permute(order);
}

}  // namespace tomoserve::compute
