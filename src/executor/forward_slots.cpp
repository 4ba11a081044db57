#include "executor/forward_slots.h"

#include <utility>

#include "executor/guarded.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::executor {
namespace {

absl::Status OnePass(Batcher& batcher, std::span<Batcher::Slot> slots, std::uint32_t lane) {
  for (Batcher::Slot& slot : slots) {
    slot.status = absl::OkStatus();
    slot.output.reset();  // of an earlier try
  }
  const std::uint32_t bucket = batcher.BucketFor(static_cast<std::uint32_t>(slots.size()));
  return Guarded([&] {
    return bucket == 1 ? slots[0].job->Forward(slots[0].window, lane, slots[0].output)
                       : batcher.Forward(slots, bucket, lane);
  });
}

}  // namespace

bool ForwardSlots(Batcher& batcher, std::span<Batcher::Slot> slots, std::uint32_t lane) {
  absl::Status status = OnePass(batcher, slots, lane);
  if (base::ReasonOf(status) == "OUT_OF_MEMORY") {
    status = Guarded([&] {
      batcher.FreeMemory();
      return absl::OkStatus();
    });
    if (status.ok()) status = OnePass(batcher, slots, lane);
  }
  const bool one_by_one = !status.ok() && slots.size() > 1;
  if (one_by_one) {
    base::Log(base::LogLevel::kWarning, "batch_failed",
              {{"reason", base::ReasonOf(status)}, {"windows", static_cast<std::int64_t>(slots.size())}});
    for (std::size_t i = 0; i < slots.size(); ++i) ForwardSlots(batcher, slots.subspan(i, 1), lane);
  } else if (!status.ok()) {
    slots[0].status = std::move(status);
  }
  for (Batcher::Slot& slot : slots) {
    if (!slot.status.ok()) slot.output.reset();
  }
  return one_by_one;
}

}  // namespace tomoserve::executor
