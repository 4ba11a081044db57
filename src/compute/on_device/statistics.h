// Statistics of float32 tensors in pieces of fixed size, so that they never depend on memory or load. Each
// waits for the device. Private to the room.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace tomoserve::compute::on_device {

// All take one-dimensional, contiguous tensors with at least one value.

// How many values there are that are not 0, and the sum of all in double.
struct CountAndSum {
  std::int64_t nonzero = 0;
  double sum = 0;
};
CountAndSum CountAndSumOf(const at::Tensor& values);

// Sum of (value - mean)^2 in double; values of 0 left out where `nonzero`.
double SumOfSquares(const at::Tensor& values, double mean, bool nonzero);

// Lowest and highest.
std::array<float, 2> ExtremesOf(const at::Tensor& values);

// NumPy's percentile of finite values, as float32. Found by halving the range of float32, so that nothing is
// sorted: 32 passes that only count.
float Percentile(const at::Tensor& values, double q);

}  // namespace tomoserve::compute::on_device
