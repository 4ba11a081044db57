// One score for each voxel of the model grid, that of its own label, read on another grid.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "pipeline/score_reader.h"
#include "tomoserve/compute/grid_map.h"

namespace tomoserve::pipeline {

class LabelScores : public ScoreReader {
 public:
  // `scores` is [d0][d1][d2] of the map's input, which is read by nearest.
  LabelScores(std::shared_ptr<const std::vector<float>> scores, compute::GridMap map)
      : scores_(std::move(scores)), map_(std::move(map)) {}

  // All voxels have the label whose channels these are.
  absl::Status ReadRuns(std::span<const std::int64_t>,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override {
    std::vector<std::vector<float>> read(static_cast<std::size_t>(std::max(parallel.threads, 1)));
    return compute::ParallelFor(parallel, static_cast<std::int64_t>(parts.size()),
                                [&](std::int64_t part, int worker) {
                                  std::vector<float>& of_part = read[static_cast<std::size_t>(worker)];
                                  of_part.clear();
                                  for (const compute::RowRun& run : parts[static_cast<std::size_t>(part)]) {
                                    for (std::int32_t i = run.first_i; i <= run.last_i; ++i) {
                                      of_part.push_back(At(run.k, run.j, i));
                                    }
                                  }
                                  use(static_cast<std::size_t>(part), of_part);
                                });
  }

 private:
  float At(std::int32_t k, std::int32_t j, std::int32_t i) const {
    const auto index = [](const compute::AxisTable& axis, std::int32_t at) {
      return static_cast<std::size_t>(axis.nearest[static_cast<std::size_t>(at)]);
    };
    const auto rows = static_cast<std::size_t>(map_[1].in_size);
    const auto columns = static_cast<std::size_t>(map_[2].in_size);
    return (*scores_)[(index(map_[0], k) * rows + index(map_[1], j)) * columns + index(map_[2], i)];
  }

  std::shared_ptr<const std::vector<float>> scores_;
  compute::GridMap map_;
};

}  // namespace tomoserve::pipeline
