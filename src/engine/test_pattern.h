// Input for networks and devices that are tried out.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <c10/util/accumulate.h>

namespace tomoserve::engine {

// Float32 on the CPU: the same on every machine, not constant, between 0 and 1. Another `step`, other values.
inline at::Tensor TestPattern(at::IntArrayRef shape, double step) {
  return at::arange(c10::multiply_integers(shape), at::kFloat).mul_(step).frac_().reshape(shape);
}

}  // namespace tomoserve::engine
