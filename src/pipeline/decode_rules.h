// What a recipe's decode steps say, whatever carries them out.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Whether the steps lead from scores to labels on the volume's grid: kInvalidArgument RECIPE_INVALID or
// kUnimplemented RECIPE_UNSUPPORTED (value: the field).
absl::Status CheckDecode(const v1::Recipe& recipe);

// kInvalidArgument LABEL_MAP_SIZE (value: the label) where a label value does not fit into Label.
template <typename Label>
absl::Status CheckLabelValues(const v1::Recipe& recipe);

// The channel whose score stands behind a label: its own number after arg_max, the one that paints it after
// threshold; -1 where no channel does.
std::int64_t ScoreChannelOf(const v1::Recipe& recipe, std::uint32_t label);

// Channels and label values in the order in which they paint.
template <typename Label>
std::vector<compute::Paint<Label>> PaintsOf(const v1::Recipe& recipe, const v1::Threshold& threshold);

}  // namespace tomoserve::pipeline
