// Where a run's arrays lie and what computes on them.
#pragma once

#include <c10/core/Device.h>

namespace tomoserve::compute {

// On a CPU either plain loops over memory, which are the specification, or the tensor operations that a
// device runs; on any other device always the latter. Both give the same within rounding (docs/adr/0008).
struct Placement {
  c10::Device device{c10::kCPU};
  bool plain_loops = true;  // of a CPU
  bool UsesLoops() const { return device.is_cpu() && plain_loops; }
};

}  // namespace tomoserve::compute
