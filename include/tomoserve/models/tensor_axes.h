// The spatial dimensions of a network's tensors, in their order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// The axes (0 = x, 1 = y, 2 = z) that the spatial dimensions of [N, C, spatial...] run along: three, or for a
// network of two dimensions the same order without z. Empty where the recipe states no order.
inline std::vector<std::size_t> SpatialAxes(const v1::Network& network) {
  std::vector<std::size_t> axes;
  switch (network.axes()) {
    case v1::TENSOR_AXES_XYZ:
      axes = {0, 1, 2};
      break;
    case v1::TENSOR_AXES_ZYX:
      axes = {2, 1, 0};
      break;
    case v1::TENSOR_AXES_ZXY:
      axes = {2, 0, 1};
      break;
    case v1::TENSOR_AXES_YZX:
      axes = {1, 2, 0};
      break;
    case v1::TENSOR_AXES_YXZ:
      axes = {1, 0, 2};
      break;
    case v1::TENSOR_AXES_XZY:
      axes = {0, 2, 1};
      break;
    default:
      break;
  }
  if (network.spatial_dims() == 2) std::erase(axes, std::size_t{2});
  return axes;
}

// Which of the spatial dimensions runs along `axis`; as many as there are where none does.
inline std::size_t DimensionOf(const std::vector<std::size_t>& axes, std::size_t axis) {
  return static_cast<std::size_t>(std::find(axes.begin(), axes.end(), axis) - axes.begin());
}

}  // namespace tomoserve::models
