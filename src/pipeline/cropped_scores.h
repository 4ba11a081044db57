// Scores of a part of the volume, read by places in the whole.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pipeline/score_reader.h"
#include "tomoserve/volume/resampling_grid.h"

namespace tomoserve::pipeline {

class CroppedScores : public ScoreReader {
 public:
  CroppedScores(std::unique_ptr<ScoreReader> scores, const volume::Box& box)
      : scores_(std::move(scores)), box_(box) {}

  // All runs lie inside the box.
  absl::Status ReadRuns(std::span<const std::int64_t> channels,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override {
    const std::array<std::int32_t, 3> first{static_cast<std::int32_t>(box_.first_ijk[0]),
                                            static_cast<std::int32_t>(box_.first_ijk[1]),
                                            static_cast<std::int32_t>(box_.first_ijk[2])};
    std::vector<std::vector<compute::RowRun>> moved;
    moved.reserve(parts.size());
    for (const std::span<const compute::RowRun> part : parts) {
      for (compute::RowRun& run : moved.emplace_back(part.begin(), part.end())) {
        run.k -= first[2];
        run.j -= first[1];
        run.first_i -= first[0];
        run.last_i -= first[0];
      }
    }
    const std::vector<std::span<const compute::RowRun>> views(moved.begin(), moved.end());
    return scores_->ReadRuns(channels, views, use, parallel);
  }

 private:
  std::unique_ptr<ScoreReader> scores_;
  volume::Box box_;
};

}  // namespace tomoserve::pipeline
