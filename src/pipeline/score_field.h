// Scores of all channels: the sums of the windows, what the recipe's steps make of them, and how they are
// read on the volume's own grid.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/resample.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Confined to one thread; the reading methods may be called from several once nothing is changed any more.
class ScoreField : public ScoreReader {
 public:
  // `scores` is contiguous [C][d0][d1][d2] float32 on the model grid. `half`: what Divide and resampling give
  // is rounded to float16, as long as no activation comes before.
  explicit ScoreField(at::Tensor scores, bool half = false);

  std::int64_t channels() const { return scores_.size(0); }

  // Divides every channel by `weights` [d0][d1][d2]. Errors: kInternal NOT_FINITE (value: "sums") where
  // float16 cannot hold what comes out; those of ParallelFor.
  absl::Status Divide(const at::Tensor& weights, const compute::Parallel& parallel);

  // Applies an activation to what Read and At give from here on: at once while on the model grid, at reading
  // after ToVolumeGrid.
  absl::Status Activate(v1::Activation activation, const compute::Parallel& parallel);

  // From here on scores are read on the grid of the map's output. The map must outlive this object.
  void ToVolumeGrid(const compute::GridMap& map, v1::Interpolation interpolation);
  bool on_volume_grid() const { return !readers_.empty(); }

  // Model grid only: all channels, [C][d0][d1][d2].
  std::span<const float> all() const;

  // Volume grid only: slice k of all channels as [C][j][i].
  void Read(std::int64_t k, std::span<float> out, std::vector<float>& scratch) const;

  // Volume grid only: one channel at one voxel; equal to Read within rounding.
  float At(std::int64_t channel, std::int64_t k, std::int64_t j, std::int64_t i) const;

  // Volume grid only: by At.
  absl::Status ReadRuns(std::span<const std::int64_t> channels,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override;

 private:
  at::Tensor scores_;
  bool half_;
  std::vector<compute::SliceReader> readers_;  // one per channel; empty on the model grid
  std::vector<v1::Activation> later_;          // after resampling
};

}  // namespace tomoserve::pipeline
