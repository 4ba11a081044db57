// From the sums of all windows to labels in the label map.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "pipeline/made_labels.h"
#include "pipeline/painted_labels.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// References; must outlive what Decode returns.
struct DecodeInput {
  const v1::Recipe& recipe;
  const RunPlan& plan;
  const compute::GridMap& to_volume;
  const compute::Placement& placement;
  const compute::Parallel& parallel;
  // uint8 [k][j][i] of plan.cropped on the host, 0 outside; undefined where no step keeps labels in the
  // region.
  const at::Tensor& region;
};

// The model grid's labels before to_volume_grid; none where no rule finds objects in them.
template <typename Label>
struct ModelLabels {
  std::vector<Label> labels;            // [d0][d1][d2]
  at::Tensor on_device;                 // the same; undefined with plain loops
  std::unique_ptr<ScoreReader> scores;  // on the model grid
};

template <typename Label>
struct Decoded {
  std::unique_ptr<ScoreReader> scores;  // on the volume's grid
  at::Tensor labels;                    // the label map's on the device; undefined with plain loops
  ModelLabels<Label> model;
};

// Divides `sums` [C][d0][d1][d2] by `weights` [d0][d1][d2] (undefined: 1), carries out the recipe's decode
// steps and fills `label_map` [k][j][i] of the volume. Errors: those of DecodeLabels. May throw what ATen
// throws.
template <typename Label>
absl::StatusOr<Decoded<Label>> Decode(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                      std::span<Label> label_map);

// The same from labels and scores on the model grid, with plain loops.
template <typename Label>
absl::StatusOr<Decoded<Label>> DecodePieced(const DecodeInput& input, MadeLabels made,
                                            std::span<Label> label_map);

// Of a composite: divides the sums of a part, makes its labels and paints them. `input` has the part's recipe
// (models::NetworkRecipe). Errors: those of Decode.
absl::Status PaintPart(const DecodeInput& input, at::Tensor sums, at::Tensor weights, PaintedLabels& painted);

// The steps that follow, on the labels of all parts.
template <typename Label>
absl::StatusOr<Decoded<Label>> DecodePainted(const DecodeInput& input, PaintedLabels painted,
                                             std::span<Label> label_map);

}  // namespace tomoserve::pipeline
