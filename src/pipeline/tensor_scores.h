// ScoreField with tensor operations, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "pipeline/score_reader.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/on_device/resample.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

// Confined to threads whose current stream is the run's. May throw what ATen throws.
class TensorScores : public ScoreReader {
 public:
  // As ScoreField's. With `half`, Divide waits for the device.
  explicit TensorScores(at::Tensor scores, bool half = false);
  absl::Status Divide(const at::Tensor& weights);
  void Activate(v1::Activation activation);
  void ToVolumeGrid(const compute::GridMap& map, v1::Interpolation interpolation);
  bool on_volume_grid() const { return map_.has_value(); }

  // Calls use(first, scores [C][count][d1][d2]) for all slices of the grid in order, few at a time.
  void ForSlices(const std::function<void(std::int64_t first, const at::Tensor& scores)>& use) const;

  // Volume grid only. Calls `use` on the caller's thread.
  absl::Status ReadRuns(std::span<const std::int64_t> channels,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override;

 private:
  std::int64_t channels() const { return scores_.size(0); }
  // The highest of these channels at voxels of the volume's grid, given by their indices in it.
  at::Tensor At(std::span<const std::int64_t> channels, const at::Tensor& indices) const;

  at::Tensor scores_;
  bool half_;
  std::optional<compute::on_device::TensorMap> map_;
  std::vector<v1::Activation> later_;  // after resampling
};

}  // namespace tomoserve::pipeline
