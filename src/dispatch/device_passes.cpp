// How devices compute windows, as far as their memory is concerned.
#include <algorithm>

#include "dispatch/devices.h"

namespace tomoserve::dispatch {
namespace {

// Largest batch that a GPU's worker tries where the configuration names none.
constexpr std::uint32_t kGpuBucket = 8;

}  // namespace

models::WindowPasses Devices::PassesOn(std::size_t index, const std::string& model_digest) const {
  const Worker& worker = workers_[index];
  const ModelOnDevice& model = ModelOn(index, model_digest);
  models::WindowPasses passes{.forward_bytes = model.forward_bytes};
  if (passes.forward_bytes == 0) {
    for (const auto& [digest, other] : worker.models) {
      passes.forward_bytes = std::max(passes.forward_bytes, other.forward_bytes);
    }
  }
  if (worker.hello) passes.lanes = std::max(1u, worker.hello->lanes());
  const auto largest = [](const auto& buckets) {
    return buckets.empty() ? 1u : *std::max_element(buckets.begin(), buckets.end());
  };
  passes.bucket = largest(model.buckets);
  // The worker lets so many wait whatever size a model has come to.
  const std::uint32_t of_device = IsCpu(index) ? 1 : kGpuBucket;
  const std::uint32_t tried = options_.batch_buckets.empty() ? of_device : largest(options_.batch_buckets);
  passes.ahead = passes.lanes * std::max(tried, largest(model.buckets));
  return passes;
}

}  // namespace tomoserve::dispatch
