// Reading and checking recipes. Strict: an unknown field, a missing one, a contradiction is an error that
// names the field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// Parses recipe.textproto and validates it. Errors: kInvalidArgument RECIPE_SYNTAX (line:column and the
// parser's text) or RECIPE_INVALID (value: field path such as "windows.size").
absl::StatusOr<v1::Recipe> ParseRecipe(std::string_view text);

// The same checks on a message.
absl::Status ValidateRecipe(const v1::Recipe& recipe);

// Bytes of a voxel that the recipe's label values need: 1 or 2.
std::uint32_t LabelBytesPerVoxel(const v1::Recipe& recipe);

}  // namespace tomoserve::models
