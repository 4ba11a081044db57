// Which input gets which volume, so that none serves two. Private to the room.
#pragma once

#include <vector>

#include "tomoserve/series/study_series.h"

namespace tomoserve::series {

// Of each input the volumes that may serve it, the best first.
using Choices = std::vector<std::vector<const Volume*>>;

// A volume for each input, or null: as many of the inputs as possible are served, and of those the first
// ones. Augmenting paths (Kuhn): polynomial in inputs and volumes.
std::vector<const Volume*> Assign(const Choices& choices);

// For each input in order the best volume that lets all later ones be served too; empty where not all can be.
std::vector<const Volume*> AssignBest(Choices choices);

}  // namespace tomoserve::series
