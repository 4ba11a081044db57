// Which of several stacks at the same places are time points of one. Private to the room.
#pragma once

#include <cstdint>
#include <vector>

#include "series/internal.h"

namespace tomoserve::series {

// Of one stack: its values of the attributes that it was told apart by, as numbers that sort.
struct SplitValues {
  std::vector<std::uint32_t> time;   // what changes slowest first
  std::vector<std::uint32_t> other;  // no time
};

// Sets `stack` and `time_point`; `values` of each stack. Stacks of equal times are in order of time.
void PlaceInTime(const std::vector<SplitValues>& values, std::vector<SplitStack>& stacks);

}  // namespace tomoserve::series
