// A recipe with several inputs: one volume for each, all on one grid. Private to the room.
#pragma once

#include "tomoserve/series/selection.h"

namespace tomoserve::series {

// `study` holds a series.
Selection SelectSeveral(const tomoserve::v1::Recipe& recipe, const StudySeries& study);

}  // namespace tomoserve::series
