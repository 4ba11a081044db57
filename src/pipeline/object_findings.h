// From labels to findings.
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::pipeline {

// Extents of the recipe's labels, in its order, present or not; whether they reach the edge of a stored
// image. `areas`: of each slice.
std::vector<ipc::v1::LabelExtent> LabelExtents(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                               std::span<const compute::StoredArea> areas,
                                               const compute::ComponentSet& components);

// Findings of all rules, highest score first (then the larger one, then the one whose first voxel comes first
// in k, j, i), each rule at most its max_findings. The score is the largest or the mean score of the label's
// channel (the highest where labels are merged) at the finding's voxels, as `scores` gives it on the volume's
// grid. Laterality stays unspecified. Limitations: TOUCHES_VOLUME_EDGE (an end of the volume, or the edge of
// a stored image), SYNTHETIC_SLICE (a voxel lies on an interpolated slice). `grid` holds the labels that
// `components` were found in. Errors: OUT_OF_MEMORY, CANCELLED.
template <typename Label>
absl::StatusOr<std::vector<v1::Finding>> ObjectFindings(
    const v1::Recipe& recipe, const volume::Geometry& geometry, std::span<const compute::StoredArea> areas,
    const compute::LabelGrid<const Label>& grid, const compute::ComponentSet& components,
    const ScoreReader& scores, const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
