// From scores to labels.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Labels of a grid, [k][j][i] with i fastest. Label: std::uint8_t or std::uint16_t, const for reading.
template <typename Label>
struct LabelGrid {
  std::span<Label> voxels;
  std::array<std::int64_t, 3> size_kji{};
};

// Label = number of the highest channel, the lowest of equals. Channel c of voxel v is
// scores[c * channel_stride + v]; one label per entry of `labels`.
template <typename Label>
void ArgMaxLabels(std::span<const float> scores, std::int64_t channels, std::int64_t channel_stride,
                  std::span<Label> labels);

// A channel and the label value that it paints.
template <typename Label>
struct Paint {
  std::int64_t channel = 0;
  Label value = 0;
};

// Label = value of the last paint whose channel is strictly above the threshold (compared as float32), else
// 0.
template <typename Label>
void ThresholdLabels(std::span<const float> scores, std::int64_t channel_stride, float above,
                     std::span<const Paint<Label>> paints, std::span<Label> labels);

// Voxels of the labels `from` take the value `into`. Errors: those of ParallelFor.
template <typename Label>
absl::Status MergeLabels(std::span<Label> labels, std::span<const std::uint32_t> from, std::uint32_t into,
                         const Parallel& parallel);

}  // namespace tomoserve::compute
