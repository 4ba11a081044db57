// Runs of voxels as a device sees them: flat indices.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tomoserve/compute/components.h"

namespace tomoserve::compute::on_device {

// Consecutive parts of `runs` that make a piece of work where each voxel takes so many values; each at least
// one run.
std::vector<std::span<const RowRun>> Batches(std::span<const RowRun> runs, std::int64_t values_of_voxel);

// Voxels of all runs.
std::int64_t VoxelsOf(std::span<const RowRun> runs);

// Indices into [k][j][i] of that size of all voxels of `runs`, in their order, int64 [VoxelsOf(runs)].
at::Tensor FlatIndices(std::span<const RowRun> runs, const std::array<std::int64_t, 3>& size_kji,
                       at::Device device);

}  // namespace tomoserve::compute::on_device
