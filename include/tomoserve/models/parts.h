// The networks of a recipe: one, or of a composite (Network.parts) one for each part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

inline bool IsComposite(const v1::Recipe& recipe) { return recipe.network().parts_size() > 0; }

// Networks that a recipe has, at least 1.
std::size_t NetworkCount(const v1::Recipe& recipe);

// What network `part` does alone: the recipe as it is where it is no composite; else with the part's files,
// output channels, labels (in the order of its channels) and intensity in the place of the recipe's. That
// part stays as the only one of Network.parts: the values of its channels after arg_max are there, where a
// network without parts has the channels' numbers. So IsComposite is true of it, too. Such a recipe is for
// what works on one network's output; it is not read again. `part` < NetworkCount.
v1::Recipe NetworkRecipe(const v1::Recipe& recipe, std::size_t part);

// Files of all networks in the order in which they travel: part after part.
std::vector<std::string> NetworkFiles(const v1::Recipe& recipe);

// Of the network that has most.
std::uint32_t MostOutputChannels(const v1::Recipe& recipe);

// Which prepared volumes the networks see: for each network the first one that has its intensity steps. All 0
// where the recipe is no composite, or its parts differ in nothing of the preparation.
std::vector<std::size_t> PreparedBy(const v1::Recipe& recipe);
// How many different ones these are.
std::size_t PreparationCount(const v1::Recipe& recipe);

}  // namespace tomoserve::models
