// Recipes whose network detects boxes.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "tomoserve/compute/boxes.h"
#include "tomoserve/compute/head_maps.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Whether a detector's other fields leave it what it needs: kInvalidArgument RECIPE_INVALID (value: the
// field).
absl::Status CheckDetector(const v1::Recipe& recipe);

// The best boxes of all windows, each class on its own: highest score first.
std::vector<compute::Detection> BestBoxes(const v1::DetectBoxes& boxes, const compute::HeadMaps& maps);

}  // namespace tomoserve::pipeline
