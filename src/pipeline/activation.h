// Activations of scores on the host. What comes out depends on a voxel's own scores, not on where it lies: a
// vectorised function may treat the last few values of an array in another way, so all voxels go through
// blocks of one size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

inline constexpr std::int64_t kBlockVoxels = 1024;

// In place on `block` [C][kBlockVoxels], contiguous float32.
void ActivateBlock(v1::Activation activation, const at::Tensor& block);

// In place on `voxels` voxels, whose channels lie `channel_stride` values apart.
void ActivateVoxels(v1::Activation activation, float* scores, std::int64_t channels,
                    std::int64_t channel_stride, std::int64_t voxels);

}  // namespace tomoserve::pipeline
