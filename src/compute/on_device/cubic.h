// ResampleCubic with tensor operations. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>

#include "tomoserve/compute/grid_map.h"

namespace tomoserve::compute::on_device {

// See compute/cubic.h. A spline along an axis is linear: some outputs are a matrix of their weights times the
// inputs around them, in float32. May throw what ATen throws.
at::Tensor ResampleCubic(at::Tensor source, const GridMap& map);

}  // namespace tomoserve::compute::on_device
