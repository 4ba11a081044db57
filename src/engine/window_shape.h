// Shapes of a network's tensors, from the recipe alone.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// In-plane size of the warm-up window of layout SLICES, where the real one depends on the volume: so many
// voxels, or where the recipe resamples at most so many millimetres, rounded up to the recipe's
// xy_multiple_of.
inline constexpr std::int64_t kSlicesWarmUpVoxels = 512;
inline constexpr double kSlicesWarmUpMm = 400;

// Shape of one window's input: [1, C, a, b(, c)] with the spatial axes in the network's order.
// Errors: kInvalidArgument RECIPE_INVALID (value: field).
absl::StatusOr<std::vector<std::int64_t>> WindowShape(const v1::Recipe& recipe);

// Whether `output` is what the network may answer to `input`.
bool OutputFits(const v1::Recipe& recipe, std::span<const std::int64_t> input,
                std::span<const std::int64_t> output);

// "1x1x96x96x96"
std::string ShapeText(std::span<const std::int64_t> shape);

}  // namespace tomoserve::engine
