// Whether a network computes several windows at once as it computes each alone.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "tomoserve/engine/network.h"

namespace tomoserve::engine {

// Runs `windows` (at least 2) different windows of the warm-up's shape in one pass, some of them without any
// finite number, and compares each one's output with that of a pass of its own, bit by bit. On the calling
// thread, which has warmed up. Returns the median milliseconds of such a pass. Errors: kFailedPrecondition
// BATCH_CHANGES_BITS (value: the windows), BATCH_BRANCHES (Network::branches_on_values); those of
// Network::Forward.
absl::StatusOr<double> ProveBatch(const Network& network, std::uint32_t windows);

// Median milliseconds of such a pass where an earlier proof stands for its bits. Errors: those of
// Network::Forward.
absl::StatusOr<double> TimeBatch(const Network& network, std::uint32_t windows);

}  // namespace tomoserve::engine
