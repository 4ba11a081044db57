// Batches of one model's windows.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "apps/tomoserve_worker/run.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/executor/job.h"
#include "tomoserve/pipeline/forward.h"

namespace tomoserve::worker {

// Of jobs that are Runs of the network's model.
class ModelBatcher final : public executor::Batcher {
 public:
  // `buckets`: proved sizes. `window_ms`: see executor::Batcher.
  ModelBatcher(std::vector<std::uint32_t> buckets, double window_ms,
               std::shared_ptr<const engine::Network> network, RunResources resources);

  // The windows' own errors come with Fold, where each run looks at what it gets.
  absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane) override;
  void FreeMemory() override;

 private:
  absl::StatusOr<at::Tensor> Gather(std::span<Slot> slots, std::uint32_t bucket) const;

  const std::shared_ptr<const engine::Network> network_;
  const RunResources resources_;
};

}  // namespace tomoserve::worker
