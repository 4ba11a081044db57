// One recipe on the volumes of its inputs, all on one grid: prepared input, windows, sums of their outputs,
// and what follows from them. Of a composite the windows of its parts come one part after the other, and only
// one part's sums are in memory at a time.
//
//   Create -> for each window: ForwardWindow (any thread, any order) -> Fold (window order) -> Finish
//
// What comes out depends on voxels, recipe, network and placement only: not on threads, timing or other runs.
//
// On a device every calling thread has the run's stream as its current one; all work is in order on it. The
// host waits for the device in Create and Finish, and of a composite in the Fold of a part's last window.
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
#include "tomoserve/compute/head_maps.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/pipeline/forward.h"
#include "tomoserve/pipeline/run_plan.h"
#include "tomoserve/v1/finding.pb.h"

namespace tomoserve::pipeline {

class LabelsInPieces;
struct PaintedLabels;
template <typename Label>
struct Decoded;
struct DecodeInput;

// What a finished run says.
struct RunResult {
  std::vector<v1::Finding> findings;         // highest score first; without UIDs
  std::vector<ipc::v1::LabelExtent> labels;  // one per label of the recipe, in its order, present or not
  bool has_label_map = true;                 // a detector has none: labels is empty, the map was not touched
  std::optional<ipc::v1::LabelExtent> lung;  // where the recipe's coverage rule is lung_inside
  // prepare, forward (sum over windows; on a device the time to start them, and in Finish to wait for them),
  // blend, labels, measure
  std::vector<v1::StageTiming> timings;
};

// What another model's label map says about the run's own volume (Recipe.region): [k][j][i] of its grid, 1 or
// 2 bytes a voxel, little-endian. Not needed after Create.
struct RegionLabels {
  std::span<const std::byte> labels;
  std::uint32_t bytes_per_voxel = 0;
};

// Stored slices of one input whose values, rescaled, are Hounsfield units: what means are taken from. Not the
// network's input, which is resampled and clipped.
struct HounsfieldInput {
  std::size_t input = 0;
  std::span<const compute::StoredSlice> slices;
};

class PreparedRun {
 public:
  ~PreparedRun();
  // Reads the slices (not needed afterwards), converts, crops, reorients, resamples and normalises.
  // `slices`: those of each input's volume, k ascending, the first input's first; neighbours of an
  // interpolated slice are counted within its own volume. `region` is what a recipe with a region needs, and
  // ignored for any other. `parallel` is used here and in Finish; its `cancelled` must stay valid as long as
  // the run. All arrays lie where `placement` says, only label map, region, runs of labels and lung are the
  // host's. Errors: those of PlanRun, StoredToFloat, ApplyIntensity, FilledNonzero; kInvalidArgument
  // REGION_MISSING, REGION_SIZE (value: bytes given), kFailedPrecondition REGION_EMPTY; OUT_OF_MEMORY,
  // CANCELLED.
  static absl::StatusOr<std::unique_ptr<PreparedRun>> Create(
      const v1::Recipe& recipe, const volume::Geometry& volume, std::span<const compute::StoredSlice> slices,
      compute::Parallel parallel, compute::Placement placement = {},
      const std::optional<RegionLabels>& region = std::nullopt);

  // After the crop: no more windows and bytes than PlanRun says before it.
  const RunPlan& plan() const { return plan_; }
  // Those of all networks: of a composite part after part.
  std::uint32_t windows() const { return WindowsOfPart() * static_cast<std::uint32_t>(networks_.size()); }
  // The network that computes a window (models::NetworkRecipe): 0 where the recipe is no composite.
  std::size_t PartOf(std::uint32_t window) const { return window / WindowsOfPart(); }

  // The network's input for a window, each input a channel: new float32 tensor of plan().input_shape on the
  // placement's device. Thread-safe.
  absl::StatusOr<at::Tensor> Gather(std::uint32_t window) const;

  // Gather and the window's network, mirrored as the recipe says. Thread-safe. Errors: kInternal
  // NETWORK_OUTPUT_SHAPE (value: the shape) or NETWORK_OUTPUT_TYPE, with plain loops NON_FINITE_OUTPUT
  // (value: the window); those of `forward`.
  absl::StatusOr<Outputs> ForwardWindow(std::uint32_t window, const Forward& forward) const;

  // Adds a window's outputs (taken over and changed): one of plan().output_shape (of a composite with the
  // part's channels), or a detector's maps. Of a composite a part's last window also makes the part's labels
  // and frees its sums, which takes as long as Finish takes for them. One thread at a time; windows in
  // ascending order, each once: FAILED_PRECONDITION FOLD_ORDER otherwise. Other errors are ForwardWindow's;
  // at a part's end also NON_FINITE_OUTPUT with tensor operations, NOT_FINITE (value: "sums"), OUT_OF_MEMORY,
  // CANCELLED.
  absl::Status Fold(std::uint32_t window, Outputs outputs);

  // After the last Fold, once: decodes, fills `label_map` ([k][j][i] of the volume's grid, `bytes_per_voxel`
  // 1 or 2 in the machine's byte order, aligned to it) and measures. Frees the run's arrays. `hounsfield`:
  // slices as in Create; without, findings have no mean_hu.
  // Errors: FAILED_PRECONDITION FOLD_ORDER; with tensor operations NON_FINITE_OUTPUT (value: the first such
  // window), for which a fold would have to wait; kInvalidArgument LABEL_MAP_SIZE; LABELS_TOO_FRAGMENTED,
  // OUT_OF_MEMORY, CANCELLED.
  absl::StatusOr<RunResult> Finish(std::span<std::byte> label_map, std::uint32_t bytes_per_voxel,
                                   const std::optional<HounsfieldInput>& hounsfield = std::nullopt);

 private:
  PreparedRun(v1::Recipe recipe, RunPlan plan, compute::Parallel parallel, compute::Placement placement);

  absl::Status Prepare(std::span<const compute::StoredSlice> slices,
                       const std::optional<RegionLabels>& region);
  absl::Status UseRegion(const std::optional<RegionLabels>& region);
  absl::Status UseBox(const volume::Box& box);
  std::uint32_t WindowsOfPart() const { return static_cast<std::uint32_t>(plan_.windows.starts.size()); }
  // The prepared volumes of all networks; of those that have the same intensity once.
  absl::Status PrepareNetworks(std::span<const compute::StoredSlice> slices);
  absl::Status PrepareInputs(std::size_t part, std::span<const compute::StoredSlice> slices);
  // Of the next inputs: all at once where one depends on the others.
  absl::Status AddPrepared(std::size_t part, std::vector<at::Tensor> volumes);
  absl::Status Normalise(std::size_t part, std::size_t first_input, std::vector<at::Tensor>& volumes) const;
  void SetImportance();
  absl::Status CheckOutputs(std::uint32_t window, const Outputs& outputs) const;
  absl::Status CheckFinite(std::uint32_t window, const Outputs& outputs) const;
  absl::Status CheckAllFinite() const;
  bool InPieces() const;
  // Of a composite, after a part's last window: its labels take the place of its sums.
  absl::Status EndPart(std::size_t part);
  void AddToSums(std::uint32_t window, const at::Tensor& output);
  at::Tensor WeightsOfSums() const;
  template <typename Label>
  absl::StatusOr<Decoded<Label>> DecodeAs(const DecodeInput& input, std::span<Label> label_map);
  template <typename Label>
  absl::StatusOr<RunResult> FinishAs(std::span<Label> label_map,
                                     const std::optional<HounsfieldInput>& hounsfield);
  absl::StatusOr<RunResult> FinishBoxes();
  // What every result has: the lung and the stages' times.
  void Report(double labels_ms, double measure_ms, RunResult& result) const;

  const v1::Recipe recipe_;
  const std::vector<v1::Recipe> networks_;      // models::NetworkRecipe of each
  const std::vector<std::size_t> prepared_by_;  // models::PreparedBy
  RunPlan plan_;                                // changes in Prepare, where a crop is known
  const compute::Parallel parallel_;
  const compute::Placement placement_;
  std::vector<compute::StoredArea> areas_;  // of each slice of the first input's volume
  at::Tensor region_;                       // see DecodeInput
  // By network and input [d0][d1][d2], the model grid in memory order; a network without looks into
  // that of prepared_by_.
  std::vector<std::vector<at::Tensor>> prepared_;
  at::Tensor importance_;                   // [x][y][z] of a window; undefined where all weights are 1
  at::Tensor sums_;                         // [C_out][d0][d1][d2], of one network at a time
  std::unique_ptr<LabelsInPieces> pieces_;  // in place of the sums, where the recipe allows
  std::unique_ptr<PaintedLabels> painted_;  // of a composite: the parts that are done
  at::Tensor finite_;  // bool [windows], whether the output was; undefined with plain loops
  std::optional<compute::HeadMaps> maps_;  // of a detector, in place of the sums
  std::uint32_t folded_ = 0;
  std::optional<compute::EnclosedAir> lung_;
  double prepare_ms_ = 0;
  mutable std::atomic<double> forward_ms_{0};
  double blend_ms_ = 0;
};

}  // namespace tomoserve::pipeline
