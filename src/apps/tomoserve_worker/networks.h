// The networks of a model: one, or of a composite one for each part.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/tomoserve_worker/warm_up.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/engine/network.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::worker {

using Networks = std::vector<std::shared_ptr<const engine::Network>>;

// One descriptor and one digest for each of models::NetworkFiles, in its order. Errors: those of
// engine::Network::Load; REQUEST_INVALID (value: "file_sha256") where there are more or fewer.
absl::StatusOr<Networks> LoadNetworks(std::span<const int> files, const v1::Recipe& recipe,
                                      std::span<const std::string> sha256,
                                      const engine::ComputeDevice& device);

// What holds for all of them, at least one: buckets that all may use and sizes that are proved for all, the
// mean of their times in these buckets (their windows are equally many), the most memory that a pass of one
// takes.
WarmNetwork Together(const std::vector<WarmNetwork>& networks);

// WarmUp of each, together. Errors: those of WarmUp; of a composite the text names the part.
absl::StatusOr<WarmNetwork> WarmUpAll(const Networks& networks, const v1::Recipe& recipe,
                                      executor::Executor& lanes, const BucketChoice& choice);

}  // namespace tomoserve::worker
