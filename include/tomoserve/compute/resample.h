// Resampling along a GridMap: trilinear or nearest, border clamped (MONAI Spacing and its inversion,
// nnU-Net's export), whole volumes also by cubic B-splines (nnU-Net's preparation).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute {

// Reads a float32 volume through a map one output slice at a time, so that a resampled volume need not exist
// as a whole. Holds references: source and map must outlive it. Thread-safe.
class SliceReader {
 public:
  // `source` is contiguous [d0][d1][d2] with the map's input sizes. `interpolation`: NEAREST or LINEAR.
  SliceReader(std::span<const float> source, const GridMap& map, v1::Interpolation interpolation);

  // Output slice `slice` as [d1][d2]. `scratch` is working space that calls of one thread may share.
  void Read(std::int64_t slice, std::span<float> out, std::vector<float>& scratch) const;

  // One output voxel; bit-identical to the same voxel of Read.
  float At(std::int64_t d0, std::int64_t d1, std::int64_t d2) const;

 private:
  void ReadLinear(std::int64_t slice, std::span<float> out, std::vector<float>& scratch) const;

  std::span<const float> source_;
  const GridMap& map_;
  bool linear_;
};

// Labels: source [d0][d1][d2] of the map's input sizes into out [d0][d1][d2] of its output sizes, by NEAREST
// or by LINEAR: between their values as between numbers, and cut to whole ones. Label: std::uint8_t or
// std::uint16_t. Errors: those of ParallelFor.
template <typename Label>
absl::Status ResampleLabels(std::span<const Label> source, const GridMap& map,
                            v1::Interpolation interpolation, std::span<Label> out, const Parallel& parallel);

// Whole volume: float32 [d0][d1][d2] on the placement's device, contiguous. Where the map changes nothing,
// `source` itself comes back. CUBIC is clipped to the range of the input, or where an axis is read by nearest
// to that of each plane across it; a source that nobody else holds is freed on the way. Placements agree
// within rounding. Errors: kInvalidArgument RESAMPLE_SHAPE or INTERPOLATION_UNSUPPORTED; those of
// ParallelFor.
absl::StatusOr<at::Tensor> Resample(at::Tensor source, const GridMap& map, v1::Interpolation interpolation,
                                    const Parallel& parallel, const Placement& placement = {});

}  // namespace tomoserve::compute
