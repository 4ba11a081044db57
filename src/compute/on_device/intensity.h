// ApplyIntensity with tensor operations. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>
#include <google/protobuf/repeated_ptr_field.h>

#include "absl/status/status.h"
#include "tomoserve/compute/parallel.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::compute::on_device {

// The steps have been checked; `volume` is contiguous float32 and not empty. Waits for the device once for
// each statistic and at the end; `region` as in compute's. Errors: NOT_FINITE as in ApplyIntensity;
// CANCELLED.
absl::Status ApplyIntensity(const google::protobuf::RepeatedPtrField<v1::IntensityStep>& steps,
                            at::Tensor& volume, const at::Tensor& region, const Parallel& parallel);

}  // namespace tomoserve::compute::on_device
