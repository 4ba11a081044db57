// What a network is tried with before runs may use it, and in batches of which sizes they may.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::worker {

// Sizes of batches that are tried, ascending, the first one 1.
struct BucketChoice {
  std::vector<std::uint32_t> sizes{1};
  // Whether a size is used only where it, or a larger one, makes windows cheaper, its pass is short enough
  // for a STAT run to wait for, and it takes no more than a quarter of `memory_bytes`.
  bool only_worthwhile = false;
  std::uint64_t memory_bytes = 0;  // of the device
  // Those that an earlier proof of all sizes found to keep the bits: they are timed only, and no other is
  // tried. Empty: there was none.
  std::vector<std::uint32_t> known{};
};

// The sizes that a worker tries where nobody says any: 1, 2, 4, 8 on a GPU, where they are worthwhile, 1 on a
// CPU, whose lanes fill it.
BucketChoice DefaultBuckets(const engine::ComputeDevice& device, std::uint64_t memory_bytes);

struct WarmNetwork {
  // In use, ascending: of the proved ones those that are worthwhile now.
  std::vector<std::uint32_t> buckets{1};
  // That keep the bits, ascending; whether they are worthwhile may change.
  std::vector<std::uint32_t> proved{1};
  // Whether each other size changes the bits. One that was left out for its time or memory, or failed, may be
  // proved another time: then the proof is not one to keep.
  bool all_tried = true;
  double ms_per_window = 0;          // of one pass, in the largest bucket in use
  std::vector<double> bucket_ms{0};  // the same in each of `buckets`
  // Of the device, of passes on all lanes at once in the hungriest bucket in use: windows, what LibTorch
  // allocates (on a CPU tensors of 256 KiB or more), answers. oneDNN's and cuDNN's own buffers that do not
  // come from LibTorch's allocator are not in it.
  std::uint64_t forward_bytes = 0;
  absl::Status not_proved;  // why the first size that was not proved was not
};

// Warms the network up on every lane, and proves batches of the sizes on each. A recipe whose windows differ
// in shape from run to run has batches of 1. Not from a lane. Errors: those of engine::Network::WarmUp;
// engine::ProveBatch's where it left the device unusable.
absl::StatusOr<WarmNetwork> WarmUp(const engine::Network& network, const v1::Recipe& recipe,
                                   executor::Executor& lanes, const BucketChoice& choice);

// WarmNetwork::forward_bytes of a network that is warm, measured again. Not from a lane; on a GPU nothing
// else may go on there. Errors: those of engine::Network::WarmUp and engine::TimeBatch.
absl::StatusOr<std::uint64_t> ForwardBytes(const engine::Network& network, executor::Executor& lanes,
                                           std::uint32_t bucket);

}  // namespace tomoserve::worker
