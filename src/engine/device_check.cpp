#include "engine/device_check.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/conv3d.h>
#include <c10/core/InferenceMode.h>

#include <optional>

#include "engine/half_precision.h"
#include "engine/test_pattern.h"

namespace tomoserve::engine {
double ConvolutionDifference(const ComputeDevice& device, v1::Precision precision) {
  device.Use();
  const c10::InferenceMode inference;
  const at::Tensor input = TestPattern({1, 8, 12, 12, 12}, 0.37);
  const at::Tensor weight = TestPattern({8, 8, 3, 3, 3}, 0.61);
  const at::Tensor expected = at::conv3d(input, weight);
  at::Tensor output;
  {
    std::optional<HalfPrecision> half;
    if (precision == v1::PRECISION_FLOAT16) half.emplace(device.device().type());
    output = at::conv3d(input.to(device.device()), weight.to(device.device()));
  }
  return output.to(at::kCPU, at::kFloat).sub(expected).abs().max().item<double>();
}

}  // namespace tomoserve::engine
