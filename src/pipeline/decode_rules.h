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

// Whether a rule finds objects on the model grid.
bool FindsOnModelGrid(const v1::Recipe& recipe);

// Whether a step keeps labels in the recipe's region.
bool KeepsInRegion(const v1::Recipe& recipe);

// Whether windows are summed as nnU-Net sums them: rounded to float16, and so are their resampled mean
// scores.
bool SumsInHalf(const v1::Recipe& recipe);

// kInternal NOT_FINITE (value: "sums").
absl::Status SumsNotFinite();

// kInvalidArgument LABEL_MAP_SIZE (value: the label) where a label value does not fit into Label.
template <typename Label>
absl::Status CheckLabelValues(const v1::Recipe& recipe);

// Whether to_volume_grid comes before labels are made.
bool MakesLabelsOnVolumeGrid(const v1::Recipe& recipe);

// The label that arg_max makes of a channel above 0: its number; of one part (models::NetworkRecipe) the
// value that the part states.
std::uint32_t ArgMaxLabel(const v1::Recipe& recipe, std::uint32_t channel);

// The channels whose scores stand behind a label, of a composite those of the part that makes it: its own
// number after arg_max, the one that paints it last after threshold, and those of the labels that are merged
// into it. Empty where no step makes the label, or it is merged into another one.
std::vector<std::int64_t> ScoreChannelsOf(const v1::Recipe& recipe, std::uint32_t label);

// Channels and label values in the order in which they paint.
template <typename Label>
std::vector<compute::Paint<Label>> PaintsOf(const v1::Recipe& recipe, const v1::Threshold& threshold);

}  // namespace tomoserve::pipeline
