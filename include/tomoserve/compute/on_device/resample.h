// Resampling along a GridMap with tensor operations; see compute/resample.h for what it means.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

#include "tomoserve/compute/grid_map.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute::on_device {

// A GridMap's tables on a device. Mixes axes in SliceReader's order, low + weight * (high - low), each
// operation rounded. May throw what ATen throws.
class TensorMap {
 public:
  // `interpolation`: NEAREST or LINEAR. Copies the map.
  TensorMap(const GridMap& map, v1::Interpolation interpolation, at::Device device);

  // Output slices [first, first + count) of `source` [...][d0][d1][d2], which has the map's input sizes, as
  // [...][count][d1][d2]; may be a view of `source`. Types that are not float32 only with NEAREST.
  at::Tensor Read(const at::Tensor& source, std::int64_t first, std::int64_t count) const;

  // The output voxels k, j, i (three int64 tensors [V]) of a contiguous float32 `source` [C][d0][d1][d2] as
  // [C][V]; bit-identical to Read.
  at::Tensor At(const at::Tensor& source, const std::array<at::Tensor, 3>& kji) const;

  // The whole of a `source` [d0][d1][d2], read piece by piece.
  at::Tensor ReadAll(const at::Tensor& source) const;

  // Output sizes.
  const std::array<std::int64_t, 3>& size() const { return size_; }
  // Values of the largest array that one output slice of one channel passes through.
  std::int64_t largest_plane() const;
  // Output slices of so many channels that make a piece of work; at least one.
  std::int64_t SlicesAtOnce(std::int64_t channels) const;

 private:
  struct Axis {
    std::int64_t in_size = 1;
    bool identity = true;
    at::Tensor low;   // int64 [out]
    at::Tensor high;  // undefined where nothing is mixed
    at::Tensor high_weight;
  };
  at::Tensor MixedAt(const at::Tensor& flat, const std::array<at::Tensor, 3>& kji, int axis,
                     const at::Tensor& offset) const;

  std::array<Axis, 3> axes_;
  std::array<std::int64_t, 3> size_{};
};

}  // namespace tomoserve::compute::on_device
