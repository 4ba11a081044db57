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
  // That passes on all lanes at once took of the device. On a CPU the sum of the most that each lane took: it
  // may be reached at the same moment.
  std::uint64_t bytes = 0;
};

absl::StatusOr<Trial> OnEveryLane(executor::Executor& lanes, const engine::ComputeDevice& device,
                                  std::uint32_t bucket, const std::function<absl::StatusOr<double>()>& pass) {
  // A GPU counts for the process, a CPU for the calling thread.
  const bool by_lane = !device.is_cuda();
  const std::uint64_t bytes_before = by_lane ? 0 : device.RestartPeak();
  std::mutex mutex;
  std::vector<double> ms;
  std::uint64_t lane_bytes = 0;
  absl::Status failed;
  lanes.OnEveryLane([&](std::uint32_t) {
    if (by_lane) device.RestartPeak();
    const auto median = pass();
    const std::lock_guard lock(mutex);
    if (by_lane) lane_bytes += device.PeakBytes();
    if (median.ok()) {
      ms.push_back(*median);
    } else if (failed.ok()) {
      failed = median.status();
    }
  });
  TS_RETURN_IF_ERROR(failed);
  std::sort(ms.begin(), ms.end());
  const std::uint64_t peak_bytes = by_lane ? lane_bytes : device.PeakBytes();
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
void DropWhatIsNotFaster(std::vector<Trial>& trials) {
  std::size_t fastest = 0;
  for (std::size_t i = 1; i < trials.size(); ++i) {
    if (trials[i].ms_per_window < kWorthwhile * trials[fastest].ms_per_window) fastest = i;
  }
  trials.resize(fastest + 1);
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
  WarmNetwork warm;
  std::vector<Trial> trials{alone};
  const auto is_hungry = [&](const Trial& trial) {
    return choice.only_worthwhile && trial.bucket > 1 && trial.bytes > choice.memory_bytes / 4;
  };
  for (const std::uint32_t bucket : choice.sizes) {
    const bool is_known = std::find(choice.known.begin(), choice.known.end(), bucket) != choice.known.end();
    if (bucket == 1 || (!choice.known.empty() && !is_known)) continue;
    const double longest_ms = trials.back().ms_per_window * bucket * models::PassesPerWindow(recipe);
    const bool is_slow = choice.only_worthwhile && longest_ms > kLongestPassMs;
    if (!HasOneWindowShape(recipe) || is_slow || is_hungry(trials.back())) {
      warm.all_tried = false;
      break;
    }
    const auto trial = OnEveryLane(lanes, device, bucket, [&] {
      return is_known ? engine::TimeBatch(network, bucket) : engine::ProveBatch(network, bucket);
    });
    if (trial.ok()) {
      warm.proved.push_back(bucket);
      trials.push_back(*trial);
      continue;
    }
    if (warm.not_proved.ok()) warm.not_proved = trial.status();
    if (base::ReasonOf(trial.status()) == "BATCH_CHANGES_BITS") continue;
    if (!device.Works()) return trial.status();
    warm.all_tried = false;  // larger ones would fail, too
    break;
  }
  if (is_hungry(trials.back())) trials.pop_back();  // none but the last one is
  if (choice.only_worthwhile) DropWhatIsNotFaster(trials);
  warm.buckets.clear();
  warm.bucket_ms.clear();
  for (const Trial& trial : trials) {
    warm.buckets.push_back(trial.bucket);
    warm.bucket_ms.push_back(trial.ms_per_window);
    warm.forward_bytes = std::max(warm.forward_bytes, trial.bytes);
  }
  warm.ms_per_window = trials.back().ms_per_window;
  return warm;
}

absl::StatusOr<std::uint64_t> ForwardBytes(const engine::Network& network, executor::Executor& lanes,
                                           std::uint32_t bucket) {
  TS_ASSIGN_OR_RETURN(const Trial trial, OnEveryLane(lanes, network.device(), bucket, [&] {
                        return bucket == 1 ? network.WarmUp() : engine::TimeBatch(network, bucket);
                      }));
  return trial.bytes;
}

}  // namespace tomoserve::worker
