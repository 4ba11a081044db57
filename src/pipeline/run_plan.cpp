#include "tomoserve/pipeline/run_plan.h"

#include <algorithm>
#include <array>
#include <string>

#include "pipeline/decode_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/orientation.h"
#include "tomoserve/volume/resampling_grid.h"
#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::pipeline {
namespace {

absl::Status Unsupported(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kUnimplemented, "RECIPE_UNSUPPORTED", field, text);
}

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

// Larger numbers are mistakes; below them, products of sizes fit into 64 bits and indices into 32.
constexpr std::uint32_t kMaxChannels = 65535;
constexpr std::uint32_t kMaxAxisVoxels = 1 << 20;

absl::Status CheckSize(const volume::Geometry& geometry) {
  for (const std::uint32_t size : geometry.size_ijk()) {
    if (size > kMaxAxisVoxels) {
      return base::Error(absl::StatusCode::kInvalidArgument, "GEOMETRY_INVALID", "size_ijk",
                         "an axis of the grid has too many voxels");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<compute::ModelGrid> PlanGrid(const v1::Preparation& preparation,
                                            const volume::Geometry& volume) {
  if (preparation.has_crop()) return Unsupported("preparation.crop", "cropping is not supported yet");
  volume::Reorientation reorientation;
  if (!preparation.orientation().empty()) {
    TS_ASSIGN_OR_RETURN(reorientation, volume::ReorientationTo(volume, preparation.orientation()));
  }
  TS_ASSIGN_OR_RETURN(volume::Geometry geometry, volume::Reoriented(volume, reorientation));
  if (preparation.has_spacing()) {
    const v1::Spacing& spacing = preparation.spacing();
    if (spacing.rule() != v1::SPACING_RULE_MONAI) {
      return Unsupported("preparation.spacing.rule", "only MONAI's spacing rule is supported yet");
    }
    if (spacing.interpolation() != v1::INTERPOLATION_LINEAR &&
        spacing.interpolation() != v1::INTERPOLATION_NEAREST) {
      return Unsupported("preparation.spacing.interpolation", "only NEAREST and LINEAR are supported yet");
    }
    if (spacing.spacing_mm_size() != 3) return Invalid("preparation.spacing.spacing_mm", "three numbers");
    TS_ASSIGN_OR_RETURN(geometry,
                        volume::MonaiSpacing(
                            geometry, {spacing.spacing_mm(0), spacing.spacing_mm(1), spacing.spacing_mm(2)}));
  }
  TS_RETURN_IF_ERROR(CheckSize(volume));
  TS_RETURN_IF_ERROR(CheckSize(geometry));
  return compute::ModelGrid{reorientation, geometry};
}

absl::StatusOr<compute::WindowPlan> PlanWindows(const v1::Windows& windows, const volume::Geometry& model) {
  const compute::Xyz size{model.size_ijk()[0], model.size_ijk()[1], model.size_ijk()[2]};
  if (windows.blend() == v1::BLEND_GAUSSIAN && !(windows.sigma_scale() >= 0)) {
    return Invalid("windows.sigma_scale", "the width of the weights is negative");
  }
  switch (windows.layout()) {
    case v1::WINDOW_LAYOUT_MONAI:
      if (windows.size_size() != 3) return Invalid("windows.size", "three numbers");
      return compute::MonaiWindows(size, {windows.size(0), windows.size(1), windows.size(2)},
                                   windows.overlap());
    case v1::WINDOW_LAYOUT_SLICES:
      return compute::SliceWindows(size, windows.context().before(), windows.context().after(),
                                   windows.xy_multiple_of());
    default:
      return Unsupported("windows.layout", "only the layouts MONAI and SLICES are supported yet");
  }
}

// Shape of a network tensor: 3D [1, channels, spatial], 2D [1, channels, spatial without z].
std::vector<std::int64_t> Shape(const v1::Network& network, std::int64_t channels, const compute::Xyz& size) {
  const auto [x, y, z] = size;
  const bool xyz = network.axes() == v1::TENSOR_AXES_XYZ;
  if (network.spatial_dims() == 2) return {1, channels, xyz ? x : y, xyz ? y : x};
  return {1, channels, xyz ? x : z, y, xyz ? z : x};
}

absl::Status CheckNetwork(const v1::Network& network, const compute::WindowPlan& windows) {
  const bool known_axes = network.axes() == v1::TENSOR_AXES_XYZ || network.axes() == v1::TENSOR_AXES_ZYX;
  if (!known_axes) return Invalid("network.axes", "the order of the axes is not stated");
  if (network.output_channels() < 1 || network.output_channels() > kMaxChannels) {
    return Invalid("network.output_channels", "at least one channel");
  }
  if (network.spatial_dims() == 3) {
    if (network.input_channels() == 1) return absl::OkStatus();
    return Unsupported("network.input_channels", "networks with several input volumes are not supported yet");
  }
  if (network.spatial_dims() != 2) return Invalid("network.spatial_dims", "2 or 3");
  if (windows.output_size[2] != 1) return Invalid("windows.size", "a 2D network sees one slice at a time");
  if (network.input_channels() != windows.size[2]) {
    return Invalid("network.input_channels", "a 2D network has one channel for each slice of its context");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int64_t>> MirrorDimensions(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  std::array<bool, 3> seen{};
  std::vector<std::int64_t> dimensions;
  for (const std::uint32_t axis : network.mirror_axes()) {
    if (axis > 2 || seen[axis]) return Invalid("network.mirror_axes", "each of 0, 1, 2 at most once");
    seen[axis] = true;
    const bool one_slice =
        network.spatial_dims() == 2 || recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES;
    if (axis == 2 && one_slice) return Invalid("network.mirror_axes", "slices are not mirrored along z");
    const std::uint32_t spatial =
        network.axes() == v1::TENSOR_AXES_XYZ ? axis : network.spatial_dims() - 1 - axis;
    dimensions.push_back(2 + std::int64_t{spatial});
  }
  return dimensions;
}

}  // namespace

absl::StatusOr<RunPlan> PlanRun(const v1::Recipe& recipe, const volume::Geometry& volume,
                                const compute::Placement& placement) {
  if (recipe.inputs_size() > 1) return Unsupported("inputs", "several input volumes are not supported yet");
  TS_ASSIGN_OR_RETURN(const compute::ModelGrid grid, PlanGrid(recipe.preparation(), volume));
  TS_ASSIGN_OR_RETURN(compute::WindowPlan windows, PlanWindows(recipe.windows(), grid.geometry));
  TS_RETURN_IF_ERROR(CheckNetwork(recipe.network(), windows));
  TS_RETURN_IF_ERROR(CheckDecode(recipe));
  TS_ASSIGN_OR_RETURN(std::vector<std::int64_t> mirror_dimensions, MirrorDimensions(recipe));
  RunPlan plan{volume, grid, std::move(windows), {}, {}, std::move(mirror_dimensions), 0, 0};
  plan.input_shape = Shape(recipe.network(), recipe.network().input_channels(), plan.windows.size);
  plan.output_shape = Shape(recipe.network(), recipe.network().output_channels(), plan.windows.output_size);
  const auto& prepared = grid.geometry.size_ijk();
  const volume::RunArrays arrays =
      volume::ArraysOf(volume, grid.reorientation, {prepared[0], prepared[1], prepared[2]},
                       recipe.network().output_channels());
  plan.device_peak_bytes = volume::DeviceBytes(arrays);
  if (placement.UsesLoops()) {
    plan.peak_bytes = volume::LoopBytes(arrays);
  } else {
    plan.peak_bytes =
        volume::HostBytesBesideDevice(arrays) + (placement.device.is_cpu() ? plan.device_peak_bytes : 0);
  }
  return plan;
}

}  // namespace tomoserve::pipeline
