// The recipe's decode steps: from scores to labels in the volume's own grid.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pipeline/made_labels.h"
#include "pipeline/score_field.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Carries out the steps of a recipe that CheckDecode accepts. `labels` is [k][j][i] of the volume. `scores`
// is left on the volume's grid: as the labels were taken, or, where they were taken on the model grid,
// nearest. `region` is DecodeInput's. Gives the model grid's labels [d0][d1][d2] as they are before
// to_volume_grid, where a rule finds objects there (FindsOnModelGrid); else none. Errors: those of
// CheckLabelValues and KeepLargestComponents; OUT_OF_MEMORY, CANCELLED.
template <typename Label>
absl::StatusOr<std::vector<Label>> DecodeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                                const compute::GridMap& to_volume, const at::Tensor& region,
                                                ScoreField& scores, std::span<Label> labels,
                                                const compute::Parallel& parallel);

// The same as far as arg_max or threshold, on the grid where these work (MakesLabelsOnVolumeGrid), with the
// scores of the voxels' own labels. `recipe` has one network.
absl::StatusOr<MadeLabels> MakeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                      const compute::GridMap& to_volume, ScoreField& scores,
                                      const compute::Parallel& parallel);

// The steps from arg_max or threshold on, where `model_labels` are what it has made on the model grid, or,
// empty, `labels` are. They are resampled by nearest. Otherwise as DecodeLabels.
template <typename Label>
absl::StatusOr<std::vector<Label>> DecodeMadeLabels(const v1::Recipe& recipe, const RunPlan& plan,
                                                    const compute::GridMap& to_volume,
                                                    const at::Tensor& region, std::vector<Label> model_labels,
                                                    std::span<Label> labels,
                                                    const compute::Parallel& parallel);

}  // namespace tomoserve::pipeline
