// Scores at which a detector's boxes become findings.
#pragma once

#include <cstdint>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// The lowest score with which a box of this label becomes a finding.
double LowestScore(const v1::Recipe& recipe, std::uint32_t label);

// Most findings of this label.
int MostFindings(const v1::Recipe& recipe, std::uint32_t label);

}  // namespace tomoserve::models
