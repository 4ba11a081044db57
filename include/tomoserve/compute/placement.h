// Where a run's arrays lie and what computes on them.
#pragma once

#include <c10/core/Device.h>

namespace tomoserve::compute {

// On a CPU either plain loops over memory, which are the specification, or the tensor operations that a
// device runs; on any other device always the latter. Both give the same within rounding (docs/adr/0008).
struct Placement {
  c10::Device device{c10::kCPU};
  bool plain_loops = true;  // of a CPU
  // Hold the sums of all windows until the end, whatever the recipe (volume::MakesLabelsInPieces): the
  // specification of labels in pieces, which are the same to the bit.
  bool whole_sums = false;
  bool UsesLoops() const { return device.is_cpu() && plain_loops; }
};

}  // namespace tomoserve::compute
