// Labels on a grid and the objects in them.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/object_places.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::pipeline {

// Labels of a grid on the host, and how they can be asked for what stands behind them.
template <typename Label>
struct LabelledVoxels {
  std::span<const Label> labels;
  at::Tensor on_device;  // the same; undefined with plain loops
  const ScoreReader* scores;
};

// References are those of LabelledVoxels and of the areas.
template <typename Label>
struct LabelledGrid {
  volume::Geometry geometry;
  compute::LabelGrid<const Label> labels;
  const ScoreReader* scores;
  ObjectPlaces places;
  compute::ComponentSet components;
};

// Objects of the label map [k][j][i]. `areas`: of each slice of the volume. Errors: those of FindComponents.
template <typename Label>
absl::StatusOr<LabelledGrid<Label>> FindOnVolumeGrid(const RunPlan& plan,
                                                     std::span<const compute::StoredArea> areas,
                                                     const LabelledVoxels<Label>& voxels,
                                                     const compute::Parallel& parallel);

// Objects of labels on the model grid [d0][d1][d2]. Its axes i, j, k are d2, d1, d0: the model's axes in the
// order of the volume's, so that slices k lie as the volume's do.
template <typename Label>
absl::StatusOr<LabelledGrid<Label>> FindOnModelGrid(const RunPlan& plan,
                                                    std::span<const compute::StoredArea> areas,
                                                    const LabelledVoxels<Label>& voxels,
                                                    const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
