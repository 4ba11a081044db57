// Cascades: whether one recipe can give another one's region.
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// Whether `source`, the recipe of the model `name`, makes what `region` asks of it: RECIPE_INVALID with
// "region.model" or "region.labels[i]".
absl::Status CheckRegionModel(const v1::Region& region, std::string_view name, const v1::Recipe& source);

}  // namespace tomoserve::models
