// From the sums of all windows to labels in the label map.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "pipeline/labels_in_pieces.h"
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

struct Decoded {
  std::unique_ptr<ScoreReader> scores;  // on the volume's grid
  at::Tensor labels;                    // the label map's on the device; undefined with plain loops
};

// Divides `sums` [C][d0][d1][d2] by `weights` [d0][d1][d2] (undefined: 1), carries out the recipe's decode
// steps and fills `label_map` [k][j][i] of the volume. Errors: those of DecodeLabels. May throw what ATen
// throws.
template <typename Label>
absl::StatusOr<Decoded> Decode(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                               std::span<Label> label_map);

// The same from labels and scores on the model grid, with plain loops.
template <typename Label>
absl::StatusOr<Decoded> DecodePieced(const DecodeInput& input, PiecedLabels made, std::span<Label> label_map);

}  // namespace tomoserve::pipeline
