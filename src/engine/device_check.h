// Whether a device computes what the CPU computes.
#pragma once

#include "tomoserve/engine/compute_device.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::engine {

// Largest absolute difference between a small 3D convolution (8 channels in, 8 out, 12^3, kernel 3^3) on the
// device in this precision and in float32 on the CPU; NaN if the device answers one. Throws what LibTorch
// throws.
double ConvolutionDifference(const ComputeDevice& device, v1::Precision precision);

}  // namespace tomoserve::engine
