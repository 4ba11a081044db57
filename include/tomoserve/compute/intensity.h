// Intensity steps of a recipe.
#pragma once

#include <ATen/core/Tensor.h>
#include <google/protobuf/repeated_ptr_field.h>

#include "absl/status/status.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/compute/placement.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute {

// Applies the steps in order, in place, to a contiguous float32 tensor of any shape on the placement's
// device. Arithmetic is float32 like MONAI's; means and deviations are summed in double over fixed chunks,
// percentiles are interpolated linearly between order statistics (NumPy's default). Where statistics have no
// spread, MONAI's rules hold: deviation 0 counts as 1, a constant volume becomes value * to_min. Placements
// agree within the rounding of the sums. Errors: kInvalidArgument INTENSITY_INVALID (value: index of the
// step) for an empty step or an empty range, NOT_FINITE when a result is NaN or infinite; those of
// ParallelFor.
//
// `region`: what z-scores with fill_holes take for the non-zero region with its holes filled, uint8 of 0 and
// 1 of the volume's shape (FilledNonzero of all channels together); undefined: that of the volume itself,
// which then has three dimensions.
absl::Status ApplyIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            at::Tensor& volume, const Parallel& parallel, const Placement& placement = {},
                            const at::Tensor& region = {});

// Whether no value of a float32 tensor is NaN or infinite. Waits for the tensor's device.
bool AllFinite(const at::Tensor& tensor);

// The same as one bool on the tensor's device, which nobody waits for. `tensor` is not empty.
at::Tensor AllFiniteFlag(const at::Tensor& tensor);

}  // namespace tomoserve::compute
