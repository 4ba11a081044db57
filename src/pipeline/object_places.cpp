#include "pipeline/object_places.h"

#include <algorithm>
#include <cstddef>

#include "tomoserve/compute/grid_map.h"

namespace tomoserve::pipeline {

ObjectPlaces::ObjectPlaces(const RunPlan& plan, std::span<const compute::StoredArea> areas) : areas_(areas) {
  const compute::GridMap to_model = compute::MapToModel(plan.cropped, plan.grid);
  const compute::GridMap to_volume = compute::MapToVolume(plan.cropped, plan.grid);
  for (std::size_t model_axis = 0; model_axis < 3; ++model_axis) {
    const auto axis = static_cast<std::size_t>(plan.grid.reorientation.source_axis[model_axis]);
    const std::int64_t first = plan.box.first_ijk[axis];
    const compute::AxisTable& made_from = to_model[2 - axis];
    Axis& places = axes_[axis];
    for (std::size_t m = 0; m < made_from.low.size(); ++m) {
      const std::int64_t low = made_from.low[m];
      const std::int64_t high = made_from.high_weight[m] > 0 ? made_from.high[m] : low;
      places.ranges.push_back({first + std::min(low, high), first + std::max(low, high)});  // flips
    }
    const std::vector<std::int32_t>& taken = to_volume[2 - axis].nearest;
    for (std::size_t v = 0; v < taken.size(); ++v) {
      Range& range = places.ranges[static_cast<std::size_t>(taken[v])];
      range.first = std::min(range.first, first + static_cast<std::int64_t>(v));
      range.last = std::max(range.last, first + static_cast<std::int64_t>(v));
    }
    places.volume_ends = {first == 0,
                          first + plan.box.size_ijk[axis] == std::int64_t{plan.volume.size_ijk()[axis]}};
    if (plan.grid.reorientation.flip[model_axis]) std::swap(places.volume_ends[0], places.volume_ends[1]);
  }
  for (std::size_t axis = 0; axis < 3; ++axis) {
    for (const std::int32_t nearest : to_model[2 - axis].nearest) {
      nearest_[axis].push_back(static_cast<std::int32_t>(plan.box.first_ijk[axis]) + nearest);
    }
  }
}

std::int64_t ObjectPlaces::NearestSlice(std::int64_t k) const {
  return nearest_[2].empty() ? k : std::int64_t{nearest_[2][static_cast<std::size_t>(k)]};
}

bool ObjectPlaces::TouchesVolumeEdge(const compute::Extent& extent) const {
  if (nearest_[2].empty()) return extent.touches_volume_edge;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const Axis& places = axes_[axis];
    const bool first = extent.first_ijk[axis] == 0;
    const bool last = extent.last_ijk[axis] + 1 == static_cast<std::int64_t>(places.ranges.size());
    if ((first && places.volume_ends[0]) || (last && places.volume_ends[1])) return true;
  }
  return false;
}

bool ObjectPlaces::IsAtStoredEdge(const compute::RowRun& run) const {
  const Range first_i = Of(0, run.first_i);
  const Range last_i = Of(0, run.last_i);
  const std::int64_t low_i = std::min(first_i.first, last_i.first);
  const std::int64_t high_i = std::max(first_i.last, last_i.last);
  const Range j = Of(1, run.j);
  const Range k = Of(2, run.k);
  for (std::int64_t slice = k.first; slice <= k.last; ++slice) {
    const compute::StoredArea& area = areas_[static_cast<std::size_t>(slice)];
    if (area.IsEdge(low_i, high_i, j.first) || area.IsEdge(low_i, high_i, j.last)) return true;
  }
  return false;
}

bool ObjectPlaces::IsOnInterpolatedSlice(const compute::RowRun& run) const {
  const Range k = Of(2, run.k);
  const auto of_run =
      areas_.subspan(static_cast<std::size_t>(k.first), static_cast<std::size_t>(k.last - k.first + 1));
  return std::any_of(of_run.begin(), of_run.end(),
                     [](const compute::StoredArea& area) { return area.interpolated; });
}

ObjectPlaces::Range ObjectPlaces::Of(std::size_t axis, std::int64_t at) const {
  const std::vector<Range>& ranges = axes_[axis].ranges;
  return ranges.empty() ? Range{at, at} : ranges[static_cast<std::size_t>(at)];
}

}  // namespace tomoserve::pipeline
