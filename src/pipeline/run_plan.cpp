#include "tomoserve/pipeline/run_plan.h"

#include <algorithm>
#include <array>
#include <string>

#include "pipeline/decode_rules.h"
#include "pipeline/detector.h"
#include "pipeline/input_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/nnunet_windows.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/tensor_axes.h"
#include "tomoserve/models/window_size.h"
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

// The grid that nnU-Net's rule makes of `source`, whose axes are the recipe's.
absl::Status PlanNnunetGrid(const v1::Spacing& spacing, const volume::Geometry& source,
                            compute::ModelGrid& grid) {
  const std::array<double, 3> target{spacing.spacing_mm(0), spacing.spacing_mm(1), spacing.spacing_mm(2)};
  TS_ASSIGN_OR_RETURN(grid.geometry, volume::NnunetSpacing(source, target));
  grid.same_edges = true;
  if (spacing.low_resolution_axis() == v1::LOW_RESOLUTION_AXIS_TOGETHER) return absl::OkStatus();
  // On the way back the recipe's spacing counts, not the one that came out of rounding the size.
  grid.nearest_to_model = volume::LowResolutionAxis(source.spacing_mm(), target);
  grid.nearest_to_volume = volume::LowResolutionAxis(target, source.spacing_mm());
  return absl::OkStatus();
}

absl::StatusOr<compute::ModelGrid> PlanGrid(const v1::Preparation& preparation,
                                            const volume::Geometry& volume) {
  volume::Reorientation reorientation;
  if (!preparation.orientation().empty()) {
    TS_ASSIGN_OR_RETURN(reorientation, volume::ReorientationTo(volume, preparation.orientation()));
  }
  TS_ASSIGN_OR_RETURN(const volume::Geometry source, volume::Reoriented(volume, reorientation));
  compute::ModelGrid grid{reorientation, source};
  if (preparation.has_spacing()) {
    const v1::Spacing& spacing = preparation.spacing();
    if (spacing.spacing_mm_size() != 3) return Invalid("preparation.spacing.spacing_mm", "three numbers");
    const bool nnunet = spacing.rule() == v1::SPACING_RULE_NNUNET;
    if (!nnunet && spacing.rule() != v1::SPACING_RULE_MONAI) {
      return Invalid("preparation.spacing.rule", "the rule is not stated");
    }
    switch (spacing.interpolation()) {
      case v1::INTERPOLATION_LINEAR:
      case v1::INTERPOLATION_NEAREST:
        break;
      case v1::INTERPOLATION_CUBIC:
        if (nnunet) break;
        return Unsupported("preparation.spacing.interpolation",
                           "CUBIC is supported with nnU-Net's rule only");
      default:
        return Invalid("preparation.spacing.interpolation", "the interpolation is not stated");
    }
    if (nnunet) {
      TS_RETURN_IF_ERROR(PlanNnunetGrid(spacing, source, grid));
    } else {
      TS_ASSIGN_OR_RETURN(grid.geometry,
                          volume::MonaiSpacing(
                              source, {spacing.spacing_mm(0), spacing.spacing_mm(1), spacing.spacing_mm(2)}));
    }
  }
  TS_RETURN_IF_ERROR(CheckSize(volume));
  TS_RETURN_IF_ERROR(CheckSize(grid.geometry));
  return grid;
}

absl::StatusOr<compute::WindowPlan> PlanMonaiWindows(const v1::Windows& windows, const compute::Xyz& size) {
  if (windows.size_size() != 3) return Invalid("windows.size", "three numbers");
  compute::Xyz window{};
  double voxels = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    window[axis] = models::IsWholeAxis(windows, axis) ? size[axis] : windows.size(static_cast<int>(axis));
    voxels *= static_cast<double>(window[axis]);
  }
  if (models::HasWholeAxis(windows) && voxels > static_cast<double>(models::kMaxWindowVoxels)) {
    return base::Error(absl::StatusCode::kResourceExhausted, "WINDOW_TOO_LARGE",
                       std::to_string(static_cast<std::uint64_t>(voxels)),
                       "the network sees the volume whole, and it has more voxels than a window may have");
  }
  return compute::MonaiWindows(size, window, windows.overlap());
}

absl::StatusOr<compute::WindowPlan> PlanNnunetWindows(const v1::Recipe& recipe, const compute::Xyz& size) {
  const v1::Windows& windows = recipe.windows();
  if (windows.size_size() != 3) return Invalid("windows.size", "three numbers");
  // The network's first axis changes slowest; of a 2D network, whose windows have one slice, z does.
  std::vector<std::size_t> order = models::SpatialAxes(recipe.network());
  if (order.empty()) return Invalid("network.axes", "the order of the axes is not stated");
  if (order.size() == 2) order.insert(order.begin(), 2);
  return compute::NnunetWindows(size, {windows.size(0), windows.size(1), windows.size(2)}, windows.overlap(),
                                {order[0], order[1], order[2]});
}

absl::StatusOr<compute::WindowPlan> PlanWindows(const v1::Recipe& recipe, const volume::Geometry& model) {
  const v1::Windows& windows = recipe.windows();
  const compute::Xyz size{model.size_ijk()[0], model.size_ijk()[1], model.size_ijk()[2]};
  const double sigma = windows.sigma_scale();
  if (windows.blend() == v1::BLEND_GAUSSIAN && sigma != 0 && !(sigma >= models::kMinSigmaScale)) {
    return Invalid("windows.sigma_scale", "the weights are too narrow, or of negative width");
  }
  switch (windows.layout()) {
    case v1::WINDOW_LAYOUT_MONAI:
      return PlanMonaiWindows(windows, size);
    case v1::WINDOW_LAYOUT_SLICES:
      return compute::SliceWindows(size, windows.context().before(), windows.context().after(),
                                   windows.xy_multiple_of());
    case v1::WINDOW_LAYOUT_NNUNET:
      return PlanNnunetWindows(recipe, size);
    default:
      return Invalid("windows.layout", "the layout is not stated");
  }
}

// None where the recipe makes labels.
absl::StatusOr<std::optional<compute::HeadPlan>> PlanDetector(const v1::Recipe& recipe,
                                                              const volume::Geometry& model) {
  const v1::DetectBoxes* const boxes = models::DetectorOf(recipe);
  if (boxes == nullptr) return std::nullopt;
  TS_RETURN_IF_ERROR(CheckDetector(recipe));
  const auto [x, y, z] = model.size_ijk();
  return compute::PlanHeads(*boxes, recipe.network().output_channels(), recipe.windows(), {x, y, z});
}

// Shape of a network tensor: 3D [1, channels, spatial], 2D [1, channels, spatial without z].
std::vector<std::int64_t> Shape(const v1::Network& network, std::int64_t channels, const compute::Xyz& size) {
  std::vector<std::int64_t> shape{1, channels};
  for (const std::size_t axis : models::SpatialAxes(network)) shape.push_back(size[axis]);
  return shape;
}

absl::Status CheckNetwork(const v1::Recipe& recipe, const compute::WindowPlan& windows) {
  const v1::Network& network = recipe.network();
  const std::size_t inputs = InputVolumes(recipe);
  if (models::SpatialAxes(network).empty())
    return Invalid("network.axes", "the order of the axes is not stated");
  if (network.output_channels() < 1 || network.output_channels() > kMaxChannels) {
    return Invalid("network.output_channels", "at least one channel");
  }
  if (network.spatial_dims() == 3) {
    if (network.input_channels() == inputs) return absl::OkStatus();
    return Invalid("network.input_channels", "one channel for each input is required");
  }
  if (network.spatial_dims() != 2) return Invalid("network.spatial_dims", "2 or 3");
  if (windows.output_size[2] != 1) return Invalid("windows.size", "a 2D network sees one slice at a time");
  if (inputs > 1 && windows.size[2] != 1) {
    return Invalid("windows.context", "a 2D network of several inputs sees one slice of each");
  }
  if (network.input_channels() != static_cast<std::int64_t>(inputs) * windows.size[2]) {
    return Invalid("network.input_channels",
                   "a 2D network has one channel for each input, or for each slice of its context");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::int64_t>> MirrorDimensions(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  const std::vector<std::size_t> axes = models::SpatialAxes(network);
  std::array<bool, 3> seen{};
  std::vector<std::int64_t> dimensions;
  for (const std::uint32_t axis : network.mirror_axes()) {
    if (axis > 2 || seen[axis]) return Invalid("network.mirror_axes", "each of 0, 1, 2 at most once");
    seen[axis] = true;
    const bool one_slice =
        network.spatial_dims() == 2 || recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES;
    if (axis == 2 && one_slice) return Invalid("network.mirror_axes", "slices are not mirrored along z");
    dimensions.push_back(2 + static_cast<std::int64_t>(models::DimensionOf(axes, axis)));
  }
  return dimensions;
}

}  // namespace

absl::StatusOr<RunPlan> PlanRun(const v1::Recipe& recipe, const volume::Geometry& volume,
                                const compute::Placement& placement, const std::optional<volume::Box>& box) {
  if (recipe.preparation().crop().to_region() && !recipe.has_region()) {
    return Invalid("preparation.crop.to_region", "the recipe has no region");
  }
  const volume::Box inside = box.value_or(volume::WholeBox(volume));
  TS_ASSIGN_OR_RETURN(const volume::Geometry cropped, volume::Part(volume, inside));
  TS_ASSIGN_OR_RETURN(const compute::ModelGrid grid, PlanGrid(recipe.preparation(), cropped));
  TS_ASSIGN_OR_RETURN(std::optional<compute::HeadPlan> heads, PlanDetector(recipe, grid.geometry));
  compute::WindowPlan windows;
  if (heads) {
    windows = heads->windows;
  } else {
    TS_ASSIGN_OR_RETURN(windows, PlanWindows(recipe, grid.geometry));
  }
  const std::size_t networks = models::NetworkCount(recipe);
  for (std::size_t part = 0; part < networks; ++part) {
    const v1::Recipe network = models::NetworkRecipe(recipe, part);
    TS_RETURN_IF_ERROR(CheckNetwork(network, windows));
    if (!heads) TS_RETURN_IF_ERROR(CheckDecode(network));
  }
  if (windows.starts.size() * networks > static_cast<std::size_t>(volume::kMaxWindows)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "TOO_MANY_WINDOWS",
                       std::to_string(windows.starts.size() * networks), "the parts have too many windows");
  }
  const std::uint32_t channels = models::MostOutputChannels(recipe);
  TS_ASSIGN_OR_RETURN(std::vector<std::int64_t> mirror_dimensions, MirrorDimensions(recipe));
  RunPlan plan{volume, inside, cropped, grid, std::move(windows), {}, {}, std::move(mirror_dimensions), 0, 0};
  plan.input_shape = Shape(recipe.network(), recipe.network().input_channels(), plan.windows.size);
  plan.heads = std::move(heads);
  if (!plan.heads) {
    plan.output_shape = Shape(recipe.network(), channels, plan.windows.output_size);
  }
  const auto& prepared = grid.geometry.size_ijk();
  volume::RunArrays arrays =
      volume::ArraysOf(volume, grid.reorientation, {prepared[0], prepared[1], prepared[2]}, channels);
  volume::CountPreparation(recipe, arrays);
  arrays.preparations = models::PreparationCount(recipe);
  arrays.window = models::WholeWindowVoxels(recipe, {prepared[0], prepared[1], prepared[2]});
  arrays.head_values = volume::HeadValues(recipe, {prepared[0], prepared[1], prepared[2]});
  if (!placement.whole_sums) {
    arrays.open_voxels = volume::OpenVoxels(recipe, {prepared[0], prepared[1], prepared[2]});
  }
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
