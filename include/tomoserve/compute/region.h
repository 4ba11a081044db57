// Where another model's label map says to look.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// 1 where a label map [k][j][i] of this size has one of `values`, else 0: uint8 [k][j][i] on the host.
// `labels`: `bytes_per_voxel` 1 or 2, little-endian, of any alignment. Errors: kInvalidArgument REGION_SIZE
// (value: bytes given), kFailedPrecondition REGION_EMPTY where no voxel has any; those of ParallelFor.
absl::StatusOr<at::Tensor> RegionMask(std::span<const std::byte> labels, std::uint32_t bytes_per_voxel,
                                      const std::array<std::uint32_t, 3>& size_ijk,
                                      std::span<const std::uint32_t> values, const Parallel& parallel);

// Sets to 0 all labels where `region` (one value per voxel of the grid) is 0. With `whole_components`,
// 26-connected components of a label that have a voxel inside stay whole. Errors: those of FindComponents.
template <typename Label>
absl::Status KeepInRegion(const LabelGrid<Label>& grid, std::span<const std::uint8_t> region,
                          bool whole_components, const Parallel& parallel);

}  // namespace tomoserve::compute
