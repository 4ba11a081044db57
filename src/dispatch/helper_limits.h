// What the helpers are told of the configured limits.
#pragma once

#include "tomoserve/config/v1/server.pb.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::dispatch {

// Sets the gatekeeper's limits, and the address space that a helper needs for instances of the configured
// size: the file, its joined fragments and the decoder's copy of them.
void SetHelperLimits(const config::v1::Limits& limits, ipc::HelperPoolOptions& helpers);

}  // namespace tomoserve::dispatch
