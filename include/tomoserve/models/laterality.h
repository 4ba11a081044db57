// Sides that words say.
#pragma once

#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// The side that a label is of: by the words of its name, and where these say none by those of its type's
// meaning. Words are letters between anything else, in any case: "kidney_left", "Left kidney". Unspecified
// where they say neither side or both.
v1::Laterality LateralityOfLabel(const v1::Label& label);

}  // namespace tomoserve::models
