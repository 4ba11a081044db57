// From labels to findings.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/labelled_grid.h"
#include "pipeline/object_measures.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::pipeline {

// Extents of the recipe's labels, in its order, present or not; whether they reach the edge of a stored
// image, and where their middle is. `areas`: of each slice.
std::vector<ipc::v1::LabelExtent> LabelExtents(const v1::Recipe& recipe, const volume::Geometry& geometry,
                                               std::span<const compute::StoredArea> areas,
                                               const compute::ComponentSet& components);

// Findings of all rules, highest score first (then the larger one, then the one whose first voxel comes first
// in k, j, i of its grid), each rule at most its max_findings. Objects, measures and scores are those of the
// label map, with on_model_grid those of `on_model` (null where no rule says so). The score is the largest or
// the mean score of the label's channel (the highest where labels are merged) at the finding's voxels. The
// key slice is one of the volume. Laterality stays unspecified. Limitations: TOUCHES_VOLUME_EDGE (an end of
// the volume, or the edge of a stored image), SYNTHETIC_SLICE (a voxel lies on an interpolated slice).
// `hounsfield`: where there are values in Hounsfield units.
// Errors: OUT_OF_MEMORY, CANCELLED.
template <typename Label>
absl::StatusOr<std::vector<v1::Finding>> ObjectFindings(const v1::Recipe& recipe,
                                                        const LabelledGrid<Label>& on_volume,
                                                        const LabelledGrid<Label>* on_model,
                                                        const std::optional<HounsfieldValues>& hounsfield,
                                                        const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
