// Work piece by piece, so that what operations allocate in between stays small.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

#include "tomoserve/volume/run_bytes.h"

namespace tomoserve::compute::on_device {

// Where the memory of a run is predicted, these two are known as well.
inline constexpr std::int64_t kChunkValues = volume::kPieceValues;
inline constexpr std::int64_t kStagingBytes = volume::kStagingBytes;

// Slices of `slice_values` values each that make a piece; at least one.
inline std::int64_t SlicesOfChunk(std::int64_t slice_values) {
  return std::max<std::int64_t>(kChunkValues / std::max<std::int64_t>(slice_values, 1), 1);
}

// Calls work(first, count) for consecutive ranges of [0, size).
template <typename Work>
void ForRanges(std::int64_t size, std::int64_t step, Work work) {
  for (std::int64_t first = 0; first < size; first += step) work(first, std::min(step, size - first));
}

// Calls work(part) for consecutive parts of a one-dimensional tensor.
template <typename Work>
void ForChunks(const at::Tensor& flat, Work work) {
  ForRanges(flat.numel(), kChunkValues,
            [&](std::int64_t first, std::int64_t count) { work(flat.narrow(0, first, count)); });
}

}  // namespace tomoserve::compute::on_device
