// The score of each voxel's own label.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Channels behind each label as a network makes it (after all merges: ScoreChannelsOf), by label; empty where
// no rule makes findings of it. 65536 entries. `recipe` has one network (models::NetworkRecipe).
std::vector<std::vector<std::int64_t>> ChannelsOfMadeLabels(const v1::Recipe& recipe);

// Sets of each voxel the highest score of its label's channels; where there are none it stays. Their values
// lie `channel_stride` apart.
void SetOwnScores(const std::vector<std::vector<std::int64_t>>& channels_of, std::span<const float> scores,
                  std::int64_t channel_stride, std::span<const std::uint16_t> labels, float* own);

}  // namespace tomoserve::pipeline
