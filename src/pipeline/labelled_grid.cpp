#include "pipeline/labelled_grid.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/on_device/components.h"
#include "tomoserve/volume/orientation.h"

namespace tomoserve::pipeline {
namespace {

template <typename Label>
absl::StatusOr<LabelledGrid<Label>> Find(const volume::Geometry& geometry, ObjectPlaces places,
                                         const LabelledVoxels<Label>& voxels,
                                         const compute::Parallel& parallel) {
  const auto [columns, rows, slices] = geometry.size_ijk();
  const compute::LabelGrid<const Label> labels{voxels.labels, {slices, rows, columns}};
  TS_ASSIGN_OR_RETURN(compute::ComponentSet components,
                      voxels.on_device.defined()
                          ? compute::on_device::FindComponents(voxels.on_device, parallel)
                          : compute::FindComponents<Label>(labels, parallel));
  return LabelledGrid<Label>{geometry, labels, voxels.scores, std::move(places), std::move(components)};
}

}  // namespace

template <typename Label>
absl::StatusOr<LabelledGrid<Label>> FindOnVolumeGrid(const RunPlan& plan,
                                                     std::span<const compute::StoredArea> areas,
                                                     const LabelledVoxels<Label>& voxels,
                                                     const compute::Parallel& parallel) {
  return Find(plan.volume, ObjectPlaces(areas), voxels, parallel);
}

template <typename Label>
absl::StatusOr<LabelledGrid<Label>> FindOnModelGrid(const RunPlan& plan,
                                                    std::span<const compute::StoredArea> areas,
                                                    const LabelledVoxels<Label>& voxels,
                                                    const compute::Parallel& parallel) {
  volume::Reorientation as_in_memory;
  for (int axis = 0; axis < 3; ++axis) {
    const int of_volume = plan.grid.reorientation.source_axis[static_cast<std::size_t>(axis)];
    as_in_memory.source_axis[static_cast<std::size_t>(of_volume)] = axis;
  }
  TS_ASSIGN_OR_RETURN(const volume::Geometry geometry, volume::Reoriented(plan.grid.geometry, as_in_memory));
  return Find(geometry, ObjectPlaces(plan, areas), voxels, parallel);
}

template absl::StatusOr<LabelledGrid<std::uint8_t>> FindOnVolumeGrid<std::uint8_t>(
    const RunPlan&, std::span<const compute::StoredArea>, const LabelledVoxels<std::uint8_t>&,
    const compute::Parallel&);
template absl::StatusOr<LabelledGrid<std::uint16_t>> FindOnVolumeGrid<std::uint16_t>(
    const RunPlan&, std::span<const compute::StoredArea>, const LabelledVoxels<std::uint16_t>&,
    const compute::Parallel&);

template absl::StatusOr<LabelledGrid<std::uint8_t>> FindOnModelGrid<std::uint8_t>(
    const RunPlan&, std::span<const compute::StoredArea>, const LabelledVoxels<std::uint8_t>&,
    const compute::Parallel&);
template absl::StatusOr<LabelledGrid<std::uint16_t>> FindOnModelGrid<std::uint16_t>(
    const RunPlan&, std::span<const compute::StoredArea>, const LabelledVoxels<std::uint16_t>&,
    const compute::Parallel&);

}  // namespace tomoserve::pipeline
