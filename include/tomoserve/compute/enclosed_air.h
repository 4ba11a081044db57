// Air-filled lung, estimated from a CT's intensities alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "absl/status/statusor.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::compute {

// Air enclosed by the body.
struct EnclosedAir {
  std::uint64_t voxels = 0;  // of the volume's grid (samples times decimation)
  double volume_ml = 0;
  std::uint32_t first_k = 0;  // first and last slice with it; 0 and 0 where there is none
  std::uint32_t last_k = 0;
};

// Values below -400 HU inside the filled outline of the body, in 26-connected parts of more than 200 ml:
// lungs with airways (and a bowel full of gas). On each k slice the body is the largest 4-connected region of
// -400 HU or more, so that table and blankets stay out, and what cannot be reached from the slice's border
// through other pixels is inside it. `hu` is the float32 volume [k][j][i] in HU. In-plane every n-th pixel is
// looked at, n the largest with n * spacing <= 2 mm; every slice is.
// Errors: kInvalidArgument RESAMPLE_SHAPE where tensor and geometry differ; those of FindComponents.
absl::StatusOr<EnclosedAir> FindEnclosedAir(const at::Tensor& hu, const volume::Geometry& geometry,
                                            const Parallel& parallel);

}  // namespace tomoserve::compute
