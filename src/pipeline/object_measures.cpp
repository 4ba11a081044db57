#include "pipeline/object_measures.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/measure.h"

namespace tomoserve::pipeline {
namespace {

void Set(double value, const char* method, double uncertainty, v1::Measurement& measurement) {
  measurement.set_value(value);
  measurement.set_method(method);
  measurement.set_uncertainty(uncertainty);
}

void SetLimitations(std::span<const compute::RowRun> runs, const compute::Extent& extent,
                    const ObjectPlaces& places, v1::Finding& finding) {
  const auto any = [&](auto holds) { return std::any_of(runs.begin(), runs.end(), holds); };
  if (places.TouchesVolumeEdge(extent) ||
      any([&](const compute::RowRun& run) { return places.IsAtStoredEdge(run); })) {
    finding.add_limitations("TOUCHES_VOLUME_EDGE");
  }
  if (any([&](const compute::RowRun& run) { return places.IsOnInterpolatedSlice(run); })) {
    finding.add_limitations("SYNTHETIC_SLICE");
  }
}

}  // namespace

std::string NameOf(const v1::Recipe& recipe, std::uint32_t value) {
  for (const v1::Label& label : recipe.labels()) {
    if (label.value() == value) return label.name();
  }
  return "";
}

void SortRuns(std::vector<compute::RowRun>& runs) {
  std::sort(runs.begin(), runs.end(), [](const compute::RowRun& a, const compute::RowRun& b) {
    return std::tie(a.k, a.j, a.first_i) < std::tie(b.k, b.j, b.first_i);
  });
}

void SetDiameters(const compute::Diameters& diameters, const volume::Geometry& geometry,
                  v1::Finding& finding) {
  const double pixel = compute::PixelDiagonalMm(geometry);
  Set(diameters.long_axis_mm, "farthest voxel centres of one slice", pixel, *finding.mutable_long_axis_mm());
  Set(diameters.short_axis_mm, "width of the voxel centres across the long axis, same slice", pixel,
      *finding.mutable_short_axis_mm());
  Set((diameters.long_axis_mm + diameters.short_axis_mm) / 2, "mean of long and short axis", pixel,
      *finding.mutable_mean_diameter_mm());
  Set(diameters.longest_3d_mm, "farthest voxel centres", compute::VoxelDiagonalMm(geometry),
      *finding.mutable_longest_diameter_3d_mm());
}

template <typename Label>
void SetExtent(std::span<const compute::RowRun> runs, const LabelledGrid<Label>& grid, v1::Finding& finding) {
  const volume::Geometry& geometry = grid.geometry;
  const compute::Extent extent = compute::MeasureExtent(runs, geometry);
  *finding.mutable_centre_lps() = volume::ToProto(extent.centroid_lps);
  *finding.mutable_box_lps()->mutable_min() = volume::ToProto(extent.box_min_lps);
  *finding.mutable_box_lps()->mutable_max() = volume::ToProto(extent.box_max_lps);
  for (const double extent_mm : extent.extent_mm) finding.add_extent_mm(extent_mm);
  const auto surface = static_cast<double>(compute::CountSurfaceVoxels<Label>(runs, grid.labels));
  Set(static_cast<double>(extent.voxels) * geometry.voxel_volume_ml(), "voxels times voxel volume",
      surface / 2 * geometry.voxel_volume_ml(), *finding.mutable_volume_ml());
  finding.set_key_slice_k(static_cast<std::uint32_t>(grid.places.NearestSlice(extent.key_slice_k)));
  finding.set_voxels(extent.voxels);
  SetLimitations(runs, extent, grid.places, finding);
}

template void SetExtent<std::uint8_t>(std::span<const compute::RowRun>, const LabelledGrid<std::uint8_t>&,
                                      v1::Finding&);
template void SetExtent<std::uint16_t>(std::span<const compute::RowRun>, const LabelledGrid<std::uint16_t>&,
                                       v1::Finding&);

absl::StatusOr<HounsfieldValues> HounsfieldOf(const v1::Recipe& recipe, const HounsfieldInput& input,
                                              const volume::Geometry& volume) {
  TS_ASSIGN_OR_RETURN(compute::StoredValues values,
                      compute::StoredValues::Create(input.slices, volume.size_ijk()));
  const bool several = recipe.inputs_size() > 1;
  const auto index = static_cast<int>(input.input);
  return HounsfieldValues{std::move(values), several ? " of input " + recipe.inputs(index).name() : ""};
}

absl::Status SetHounsfield(std::span<const compute::RowRun> runs, const ObjectPlaces& places,
                           const HounsfieldValues& hounsfield, const compute::Parallel& parallel,
                           v1::Finding& finding) {
  TS_ASSIGN_OR_RETURN(const compute::ValueStatistics hu,
                      hounsfield.values.Measure(runs, places.nearest(), parallel));
  if (hu.values == 0) return absl::OkStatus();
  const double error = hu.deviation / std::sqrt(static_cast<double>(hu.values));
  Set(hu.mean, "mean of the stored values in its voxels", error, *finding.mutable_mean_hu());
  Set(hu.deviation, "standard deviation of the stored values in its voxels", error / std::sqrt(2.0),
      *finding.mutable_standard_deviation_hu());
  finding.mutable_mean_hu()->mutable_method()->append(hounsfield.of_input);
  finding.mutable_standard_deviation_hu()->mutable_method()->append(hounsfield.of_input);
  return absl::OkStatus();
}

LabelDistances::LabelDistances(const v1::Recipe& recipe, const v1::FindingRule& rule,
                               const compute::ComponentSet& components, const volume::Geometry& geometry)
    : geometry_(geometry) {
  for (const std::uint32_t label : rule.distance_to()) {
    Other other{label, NameOf(recipe, label), {}, {}};
    for (const compute::Component& component : components.components) {
      if (component.label != label) continue;
      const std::span<const compute::RowRun> runs = components.RunsOf(component);
      other.runs.insert(other.runs.end(), runs.begin(), runs.end());
    }
    if (other.runs.empty()) continue;
    SortRuns(other.runs);
    others_.push_back(std::move(other));
  }
  for (Other& other : others_) other.by_slice.emplace(other.runs);
}

void LabelDistances::Set(std::span<const compute::RowRun> runs, v1::Finding& finding) const {
  if (others_.empty()) return;
  const compute::RunsBySlice object(runs);
  for (const Other& other : others_) {
    v1::Distance& distance = *finding.add_distances();
    distance.set_to_label(other.label);
    distance.set_label(other.name);
    pipeline::Set(compute::LeastDistanceMm(object, *other.by_slice, geometry_.spacing_mm()),
                  "nearest voxel surfaces", compute::VoxelDiagonalMm(geometry_), *distance.mutable_mm());
  }
}

}  // namespace tomoserve::pipeline
