// Air-filled lung, estimated from a CT's intensities alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/stored_area.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::compute {

// Air enclosed by the body.
struct EnclosedAir {
  std::uint64_t voxels = 0;  // of the volume's grid (samples times decimation)
  double volume_ml = 0;
  // First and last slice with lung: with such air, the slices from the neck up left out (see below); 0 and 0
  // where there is none.
  std::uint32_t first_k = 0;
  std::uint32_t last_k = 0;
  bool touches_in_plane_border = false;  // lung is cut off in-plane (see below)
};

// Values below -400 HU inside the filled outline of the body, in 26-connected parts of more than 200 ml:
// lungs with airways (and a bowel full of gas). On each k slice the body is the largest 4-connected region of
// -400 HU or more, so that table and blankets stay out, and what cannot be reached from the slice's border
// through other pixels is inside it. `hu` is the float32 volume [k][j][i] in HU. In-plane every n-th pixel is
// looked at, n the largest with n * spacing <= 2 mm; every slice is.
//
// The neck. The trachea reaches the first slice of every scan that shows the whole lung, so it may not count
// as lung there. The neck begins at the first slice, from the one with most air towards the head, whose air
// is one 8-connected part no larger than a trachea (5.5 cm2) that goes on towards the feet as a part apart
// from all others, no larger than that, for 20 mm or more, where no more than 200 ml lie beyond. The apex of
// a lung, however little of it a scan shows, is either a second part beside the trachea or grows past the
// limit within some millimetres, so that a cut through it ends in lung. Only where k runs towards the head or
// the feet; elsewhere all air counts.
//
// Cut off in-plane, judged on slices with such air:
//  - 30 ml or more lie in regions that reach the edge of the field of view and of whose air at least half has
//    body on both sides along its column, or along its row. Of the room little has; of a lung that the edge
//    cuts nearly all.
//  - Or the body reaches the edge of the field and only one lung is seen: the second largest part of a slice
//    holds, summed over the slices, less than a fifth of the largest.
// A body wholly inside the field fulfils neither, nor does one whose skin is cut beside two whole lungs. The
// field of view ends at the image's border, at padding below -1100 HU that reaches a corner, and at the
// circle inscribed in a square image outside which all pixels are equal. The image is the slice's part in
// `areas` (one per slice), not the grid: what was put beside a shifted slice is neither air nor room.
//
// Errors: kInvalidArgument RESAMPLE_SHAPE where tensor, areas and geometry differ; those of FindComponents.
absl::StatusOr<EnclosedAir> FindEnclosedAir(const at::Tensor& hu, const volume::Geometry& geometry,
                                            std::span<const StoredArea> areas, const Parallel& parallel);

// The same from the stored values of a volume that lies on a device: only the pixels that are looked at are
// rescaled, and none comes back. Bit-identical. Errors: also those of StoredToFloat.
absl::StatusOr<EnclosedAir> FindEnclosedAir(std::span<const StoredSlice> slices,
                                            const volume::Geometry& geometry, const Parallel& parallel);

}  // namespace tomoserve::compute
