// Reading and checking recipes. Strict: an unknown field, a missing one, a contradiction is an error that
// names the field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// Parses recipe.textproto and validates it. Errors: kInvalidArgument RECIPE_SYNTAX (value: "line:column",
// both from 1; text: the parser's) or RECIPE_INVALID (value: field path such as "windows.size" or
// "decode[2].keep_largest.label"); kUnimplemented RECIPE_UNSUPPORTED (value: field path) for a valid recipe
// that needs what the engine does not run yet.
absl::StatusOr<v1::Recipe> ParseRecipe(std::string_view text);

// The same checks on a message. What is wrong comes before what is not supported.
absl::Status ValidateRecipe(const v1::Recipe& recipe);

// The step that makes boxes; null where the recipe makes labels.
const v1::DetectBoxes* DetectorOf(const v1::Recipe& recipe);

// Whether a label is made before to_volume_grid and no step after it changes it: what
// FindingRule.on_model_grid needs.
bool IsWholeOnModelGrid(const v1::Recipe& recipe, std::uint32_t label);

// Whether network and windows of a detector are what boxes need: kInvalidArgument RECIPE_INVALID (value: the
// field). Part of ValidateRecipe.
absl::Status CheckNetworkOfDetector(const v1::Recipe& recipe);

// Bytes of a voxel that the recipe's label values need: 1 or 2.
std::uint32_t LabelBytesPerVoxel(const v1::Recipe& recipe);

}  // namespace tomoserve::models
