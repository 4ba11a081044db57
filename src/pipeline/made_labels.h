// Labels as arg_max or threshold has made them.
#pragma once

#include <cstdint>
#include <vector>

namespace tomoserve::pipeline {

// On the grid where they were made, [d0][d1][d2] of the model grid or [k][j][i] of plan.cropped.
struct MadeLabels {
  std::vector<std::uint16_t> labels;
  // Of each voxel the highest score of the channels behind the label that it becomes (ScoreChannelsOf), where
  // a rule makes findings of it. Empty where no rule does.
  std::vector<float> scores;
};

}  // namespace tomoserve::pipeline
