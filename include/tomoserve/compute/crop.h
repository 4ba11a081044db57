// The interesting part of a volume.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/volume/resampling_grid.h"

namespace tomoserve::compute {

// The smallest box that holds every voxel at which a value of any of these contiguous float32 volumes
// [k][j][i] of one size is not `background`, wider by `margin` voxels as far as the volume goes; the whole
// volume where nothing differs. Waits for the tensors' device. Errors: those of ParallelFor.
absl::StatusOr<volume::Box> BoxOfOthers(std::span<const at::Tensor> volumes, double background,
                                        std::uint32_t margin, const Parallel& parallel,
                                        const Placement& placement = {});

// The same of a contiguous uint8 mask [k][j][i] on the host, for voxels that are not 0.
absl::StatusOr<volume::Box> BoxOfMask(const at::Tensor& mask, std::uint32_t margin, const Parallel& parallel);

// The values in `box`, which lies inside, contiguous; loops, for float32 only, move them to the front of the
// volume's own memory. `volume` is contiguous [k][j][i] and not to be used any more.
at::Tensor CropTo(at::Tensor volume, const volume::Box& box, const Placement& placement = {});

// 1 where a value of any of these contiguous float32 volumes [k][j][i] of one size is not 0, and in the holes
// between such: where no path over faces leads out of the volume. uint8 on the volumes' device. Waits for it.
// Errors: LABELS_TOO_FRAGMENTED; those of ParallelFor. May throw what ATen throws.
absl::StatusOr<at::Tensor> FilledNonzero(std::span<const at::Tensor> volumes, const Parallel& parallel,
                                         const Placement& placement = {});

// Puts `part`, the voxels [k][j][i] in `box`, into `whole` [k][j][i] of a volume of this geometry; 0
// elsewhere. Label: std::uint8_t or std::uint16_t.
template <typename Label>
void InsertInto(const volume::Geometry& geometry, const volume::Box& box, std::span<const Label> part,
                std::span<Label> whole);

}  // namespace tomoserve::compute
