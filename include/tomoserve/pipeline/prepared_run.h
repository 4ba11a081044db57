// One recipe on one volume: prepared input, windows, sums of their outputs, and what follows from them.
//
//   Create -> for each window: ForwardWindow (any thread, any order) -> Fold (window order) -> Finish
//
// What comes out depends on voxels, recipe and network only: not on threads, timing or other runs.
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/enclosed_air.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/pipeline/forward.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/finding.pb.h"

namespace tomoserve::pipeline {

// What a finished run says.
struct RunResult {
  std::vector<v1::Finding> findings;         // highest score first; without UIDs
  std::vector<ipc::v1::LabelExtent> labels;  // one per label of the recipe, in its order, present or not
  std::optional<ipc::v1::LabelExtent> lung;  // where the recipe's coverage rule is lung_inside
  std::vector<v1::StageTiming> timings;      // prepare, forward (sum over windows), blend, labels, measure
};

class PreparedRun {
 public:
  // Reads the slices (not needed afterwards), converts, reorients, resamples and normalises. `parallel` is
  // used here and in Finish; its `cancelled` must stay valid as long as the run.
  // Errors: those of PlanRun, StoredToFloat, ApplyIntensity; OUT_OF_MEMORY, CANCELLED.
  static absl::StatusOr<std::unique_ptr<PreparedRun>> Create(const v1::Recipe& recipe,
                                                             const volume::Geometry& volume,
                                                             std::span<const compute::StoredSlice> slices,
                                                             compute::Parallel parallel);

  const RunPlan& plan() const { return plan_; }
  std::uint32_t windows() const { return static_cast<std::uint32_t>(plan_.windows.starts.size()); }

  // The network's input for a window: new float32 tensor of plan().input_shape. Thread-safe.
  absl::StatusOr<at::Tensor> Gather(std::uint32_t window) const;

  // Gather and the network, mirrored as the recipe says. Thread-safe. Errors: kInternal NETWORK_OUTPUT_SHAPE
  // (value: the shape) or NETWORK_OUTPUT_TYPE, NOT_FINITE (value: the window); those of `forward`.
  absl::StatusOr<at::Tensor> ForwardWindow(std::uint32_t window, const Forward& forward) const;

  // Adds a window's output (of plan().output_shape; taken over and changed). One thread at a time; windows in
  // ascending order, each once: FAILED_PRECONDITION FOLD_ORDER otherwise.
  absl::Status Fold(std::uint32_t window, at::Tensor output);

  // After the last Fold, once: decodes, fills `label_map` ([k][j][i] of the volume's grid, `bytes_per_voxel`
  // 1 or 2 in the machine's byte order, aligned to it) and measures. Frees the run's arrays.
  // Errors: FAILED_PRECONDITION FOLD_ORDER; kInvalidArgument LABEL_MAP_SIZE; LABELS_TOO_FRAGMENTED,
  // OUT_OF_MEMORY, CANCELLED.
  absl::StatusOr<RunResult> Finish(std::span<std::byte> label_map, std::uint32_t bytes_per_voxel);

 private:
  PreparedRun(v1::Recipe recipe, RunPlan plan, compute::Parallel parallel);

  absl::Status Prepare(std::span<const compute::StoredSlice> slices);
  absl::Status CheckOutput(std::uint32_t window, const at::Tensor& output) const;
  template <typename Label>
  absl::StatusOr<RunResult> FinishAs(std::span<Label> label_map);

  const v1::Recipe recipe_;
  const RunPlan plan_;
  const compute::Parallel parallel_;
  at::Tensor prepared_;    // [d0][d1][d2], the model grid in memory order
  at::Tensor importance_;  // [x][y][z] of a window; undefined where all weights are 1
  at::Tensor sums_;        // [C_out][d0][d1][d2]
  std::uint32_t folded_ = 0;
  std::optional<compute::EnclosedAir> lung_;
  double prepare_ms_ = 0;
  mutable std::atomic<double> forward_ms_{0};
  double blend_ms_ = 0;
};

}  // namespace tomoserve::pipeline
