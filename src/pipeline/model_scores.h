// Scores of the model grid, read where they are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "pipeline/score_field.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/grid_map.h"

namespace tomoserve::pipeline {

// Reads each voxel of a grid of this size, slowest axis first, where it is.
inline compute::GridMap IdentityMap(const std::array<std::int64_t, 3>& size) {
  compute::GridMap map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    map[axis] =
        compute::MakeAxisTable(size[axis], size[axis], 1, /*flip_input=*/false, /*flip_output=*/false);
  }
  return map;
}

// A ScoreField whose voxels k, j, i are the model grid's d0, d1, d2. Shares its scores.
class ModelScores : public ScoreReader {
 public:
  // `scores` has been activated on the model grid.
  ModelScores(ScoreField scores, const std::array<std::int64_t, 3>& size)
      : map_(IdentityMap(size)), scores_(std::move(scores)) {
    scores_.ToVolumeGrid(map_, v1::INTERPOLATION_NEAREST);
  }
  ModelScores(const ModelScores&) = delete;  // scores_ refers to map_
  ModelScores& operator=(const ModelScores&) = delete;

  absl::Status ReadRuns(std::span<const std::int64_t> channels,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override {
    return scores_.ReadRuns(channels, parts, use, parallel);
  }

 private:
  compute::GridMap map_;
  ScoreField scores_;
};

}  // namespace tomoserve::pipeline
