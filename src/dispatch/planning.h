// What a recipe would cost on a volume: windows, device memory, time. Pure functions over geometry and
// recipe.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "dispatch/device_ledger.h"
#include "dispatch/run_times.h"
#include "dispatch/study_input.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/models/window_bytes.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/v1/study_service.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::dispatch {

struct Prediction {
  std::array<std::uint64_t, 3> prepared_size{};  // voxels along the recipe's x, y, z, before padding
  std::uint32_t windows = 0;
  // Of the run's arrays on a device of either kind (volume/run_bytes.h, as the worker counts them), without
  // its windows (models/window_bytes.h) and the weights, which are resident.
  std::uint64_t cpu_bytes = 0;
  std::uint64_t gpu_bytes = 0;
  std::uint64_t gpu_host_bytes = 0;  // of the host, beside a GPU
  double window_ratio = 1;           // how many times as large as at warm-up a window is
  std::uint64_t voxels = 0;          // of the volumes and the prepared volumes
};

// Size of the prepared volume: reoriented, then resampled by the recipe's rule. Cropping is not foreseen (its
// size depends on the pixels): the prediction is an upper bound. Errors: those of volume.
absl::StatusOr<std::array<std::uint64_t, 3>> PreparedSize(const v1::Recipe& recipe,
                                                          const volume::Geometry& grid);

// Windows that the recipe's layout puts on a volume of this size: MONAI's dense_patch_slices (interval
// int(size * (1 - overlap)), at least 1), nnU-Net's compute_steps_for_sliding_window, or one per slice.
std::uint32_t CountWindows(const v1::Windows& windows, const std::array<std::uint64_t, 3>& size);

// What a worker has measured at warm-up: one forward pass on one lane while all lanes compute.
struct WindowSpeed {
  double ms_per_window = 0;
  std::uint32_t lanes = 1;  // windows computed at a time
};

// Of several time points all are held at a time.
absl::StatusOr<Prediction> Predict(const v1::Recipe& recipe, const volume::Geometry& grid,
                                   std::uint32_t time_points = 1);

// Seconds of the run on a device: as learnt from runs there. Before the first of them those of its windows
// alone, as at warm-up: lanes take windows side by side, a window's mirrored passes follow each other on one
// lane. Where nothing is measured the recipe's own profile counts, on one lane. 0: not known.
double RunSeconds(const v1::Recipe& recipe, const Prediction& prediction,
                  const std::optional<WindowSpeed>& speed, const std::optional<RunTime>& learnt);

// What the run asks of a device that computes its windows so: its arrays and its windows. Its order and its
// batches are left out.
RunDemand Demand(const v1::Recipe& recipe, const Prediction& prediction, bool on_cpu,
                 const models::WindowPasses& passes);

RunWork WorkOf(const Prediction& prediction);

// A device that has the model, or may have it.
struct PlanDevice {
  bool warm = false;  // the rest is known
  bool is_cpu = false;
  std::optional<WindowSpeed> speed;  // absent: not measured
  std::optional<RunTime> learnt;     // absent: no run of the model was alone on this kind of device yet
  std::uint64_t weight_bytes = 0;
  models::WindowPasses passes;
  DeviceLedger ledger;
};

// One line of a plan. Its bytes and seconds are those of the device that would answer first, of those that it
// fits: the seconds learnt from runs, before the first of them those of its windows as at warm-up. Without a
// warm one its bytes are those of the kind of device that needs more, without weights. A run that fits none,
// and may fit none that gets the model, is not applicable: RUN_TOO_LARGE.
v1::PlannedRun PlanRun(const models::Model& model, const RunInput& input,
                       std::span<const PlanDevice> devices);

}  // namespace tomoserve::dispatch
