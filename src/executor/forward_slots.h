// One batch's pass, and what to do when it fails.
#pragma once

#include <cstdint>
#include <span>

#include "tomoserve/executor/job.h"

namespace tomoserve::executor {

// Computes the windows of `slots` (1 to the largest bucket); each has its status then, and an output only
// where that is OK. A pass for which memory was short is repeated once in the same bucket; one that fails as
// a whole is repeated one window at a time, so that no job fails by its batch-mates. Returns whether windows
// had to be computed one at a time.
bool ForwardSlots(Batcher& batcher, std::span<Batcher::Slot> slots, std::uint32_t lane);

}  // namespace tomoserve::executor
