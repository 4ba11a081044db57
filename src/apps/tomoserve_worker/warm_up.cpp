#include "apps/tomoserve_worker/warm_up.h"

#include <algorithm>
#include <functional>
#include <mutex>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/engine/batch_proof.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::worker {
namespace {

// A STAT run waits for the passes that are launched before its own.
constexpr double kLongestPassMs = 250;
// A larger batch makes others wait and takes memory: it must be faster than by chance.
constexpr double kWorthwhile = 0.95;

struct Trial {
  std::uint32_t bucket = 1;
  double ms_per_window = 0;  // of a pass: the lanes' median
  std::uint64_t bytes = 0;   // that a pass took of the device
};

absl::StatusOr<Trial> OnEveryLane(executor::Executor& lanes, const engine::ComputeDevice& device,
                                  std::uint32_t bucket, const std::function<absl::StatusOr<double>()>& pass) {
  const std::uint64_t bytes_before = device.RestartPeak();
  std::mutex mutex;
  std::vector<double> ms;
  absl::Status failed;
  lanes.OnEveryLane([&](std::uint32_t) {
    const auto median = pass();
    const std::lock_guard lock(mutex);
    if (median.ok()) {
      ms.push_back(*median);
    } else if (failed.ok()) {
      failed = median.status();
    }
  });
  TS_RETURN_IF_ERROR(failed);
  std::sort(ms.begin(), ms.end());
  const std::uint64_t peak_bytes = device.PeakBytes();
  return Trial{.bucket = bucket,
               .ms_per_window = ms[ms.size() / 2] / bucket,
               .bytes = peak_bytes - std::min(peak_bytes, bytes_before)};
}

// Whether all windows have the shape that the network is warmed up with.
bool HasOneWindowShape(const v1::Recipe& recipe) {
  const v1::DetectBoxes* const detector = models::DetectorOf(recipe);
  const bool sees_whole = detector != nullptr && detector->whole_below_voxels() > 0;
  return !models::HasWholeAxis(recipe.windows()) && !sees_whole;
}

// Sizes below the fastest one stay: where fewer windows are there they leave fewer slots empty.
void DropWhatIsNotFaster(std::vector<Trial>& proved) {
  std::size_t fastest = 0;
  for (std::size_t i = 1; i < proved.size(); ++i) {
    if (proved[i].ms_per_window < kWorthwhile * proved[fastest].ms_per_window) fastest = i;
  }
  proved.resize(fastest + 1);
}

}  // namespace

BucketChoice DefaultBuckets(const engine::ComputeDevice& device, std::uint64_t memory_bytes) {
  if (!device.is_cuda()) return {};
  return {.sizes = {1, 2, 4, 8}, .only_worthwhile = true, .memory_bytes = memory_bytes};
}

absl::StatusOr<WarmNetwork> WarmUp(const engine::Network& network, const v1::Recipe& recipe,
                                   executor::Executor& lanes, const BucketChoice& choice) {
  const engine::ComputeDevice& device = network.device();
  TS_ASSIGN_OR_RETURN(const Trial alone, OnEveryLane(lanes, device, 1, [&] { return network.WarmUp(); }));
  std::vector<Trial> proved{alone};
  absl::Status not_proved;
  for (const std::uint32_t bucket : choice.sizes) {
    if (bucket == 1) continue;
    if (!HasOneWindowShape(recipe)) break;
    const double longest_ms = proved.back().ms_per_window * bucket * models::PassesPerWindow(recipe);
    if (choice.only_worthwhile && longest_ms > kLongestPassMs) break;
    const auto trial =
        OnEveryLane(lanes, device, bucket, [&] { return engine::ProveBatch(network, bucket); });
    if (trial.ok()) {
      if (choice.only_worthwhile && trial->bytes > choice.memory_bytes / 4) break;
      proved.push_back(*trial);
      continue;
    }
    if (not_proved.ok()) not_proved = trial.status();
    if (base::ReasonOf(trial.status()) == "BATCH_CHANGES_BITS") continue;
    if (!device.Works()) return trial.status();
    break;  // larger ones would fail, too
  }
  if (choice.only_worthwhile) DropWhatIsNotFaster(proved);
  WarmNetwork warm{.buckets = {},
                   .ms_per_window = proved.back().ms_per_window,
                   .forward_bytes = 0,
                   .not_proved = std::move(not_proved)};
  for (const Trial& trial : proved) {
    warm.buckets.push_back(trial.bucket);
    warm.forward_bytes = std::max(warm.forward_bytes, trial.bytes);
  }
  return warm;
}

}  // namespace tomoserve::worker
