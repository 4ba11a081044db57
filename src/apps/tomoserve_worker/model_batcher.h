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

// Of jobs that are Runs of one model; of a composite each of its networks computes its own windows of the
// batch.
class ModelBatcher final : public executor::Batcher {
 public:
  // `buckets`: sizes that are proved for every network. `window_ms`: see executor::Batcher.
  ModelBatcher(std::vector<std::uint32_t> buckets, double window_ms,
               std::vector<std::shared_ptr<const engine::Network>> networks, RunResources resources);

  // The windows' own errors come with Fold, where each run looks at what it gets.
  absl::Status Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t lane) override;
  void FreeMemory() override;

 private:
  // Windows of one network.
  absl::Status ForwardOn(const engine::Network& network, std::span<Slot* const> slots, std::uint32_t bucket);
  absl::StatusOr<at::Tensor> Gather(const engine::Network& network, std::span<Slot* const> slots,
                                    std::uint32_t bucket) const;

  const std::vector<std::shared_ptr<const engine::Network>> networks_;
  const RunResources resources_;
};

}  // namespace tomoserve::worker
