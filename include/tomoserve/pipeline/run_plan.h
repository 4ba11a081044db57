// What a recipe will do to a volume of a given geometry, before any voxel is touched.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/head_maps.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/compute/windows.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"
#include "tomoserve/volume/resampling_grid.h"

namespace tomoserve::pipeline {

struct RunPlan {
  volume::Geometry volume;                // the volume's own grid
  volume::Box box;                        // of it: what the recipe's crop leaves
  volume::Geometry cropped;               // the grid of that box
  compute::ModelGrid grid;                // the prepared volume's
  compute::WindowPlan windows;            // on `grid`; of each part of a composite
  std::vector<std::int64_t> input_shape;  // of the network: [1, C, spatial...]
  // Of the network: [1, C_out, spatial...]; of a composite C_out is the most that a part has.
  std::vector<std::int64_t> output_shape;
  std::vector<std::int64_t> mirror_dimensions;  // of these tensors
  // Of this run's arrays at the worst moment, network and label map not counted. On the host: all of them
  // where the placement is a CPU, else what staging takes. On a device: what it would take there, for any
  // placement.
  std::uint64_t peak_bytes = 0;
  std::uint64_t device_peak_bytes = 0;
  std::optional<compute::HeadPlan> heads = {};  // of a detector; output_shape is then empty

  bool IsCropped() const { return box != volume::WholeBox(volume); }
};

// Errors: kUnimplemented RECIPE_UNSUPPORTED (value: field) for what the schema knows and this version does
// not carry out; kInvalidArgument RECIPE_INVALID (value: field) for contradictions; ORIENTATION_INVALID,
// SPACING_INVALID, GEOMETRY_INVALID, WINDOW_INVALID, WINDOW_TOO_LARGE (value: its
// voxels), TOO_MANY_WINDOWS.
//
// What a crop leaves depends on voxels: before they are known (no `box`) the whole volume counts, so that no
// run has more windows or needs more memory than its first plan says. `box` lies inside the volume.
absl::StatusOr<RunPlan> PlanRun(const v1::Recipe& recipe, const volume::Geometry& volume,
                                const compute::Placement& placement = {},
                                const std::optional<volume::Box>& box = std::nullopt);

}  // namespace tomoserve::pipeline
