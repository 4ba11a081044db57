// Shapes of a network's tensors, from the recipe alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// Shape of the input that the network is warmed up with, a window of models::WarmUpSize: [1, C, a, b(, c)]
// with the spatial axes in the network's order. Errors: kInvalidArgument RECIPE_INVALID (value: field).
absl::StatusOr<std::vector<std::int64_t>> WindowShape(const v1::Recipe& recipe);

// Whether `output` is what the network may answer to `input`.
bool OutputFits(const v1::Recipe& recipe, std::span<const std::int64_t> input,
                std::span<const std::int64_t> output);

// Whether `output` is map `index` of what a detector may answer to `input`: per level the classification map,
// then per level the box map, each the input's size in the level's cells.
bool MapFits(const v1::Recipe& recipe, std::size_t index, std::span<const std::int64_t> input,
             std::span<const std::int64_t> output);

// "1x1x96x96x96"
std::string ShapeText(std::span<const std::int64_t> shape);

}  // namespace tomoserve::engine
