#include "pipeline/activation.h"

#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

namespace tomoserve::pipeline {

void ActivateBlock(v1::Activation activation, const at::Tensor& block) {
  const c10::InferenceMode inference;  // per thread
  if (activation == v1::ACTIVATION_SIGMOID) {
    block.sigmoid_();
  } else if (activation == v1::ACTIVATION_SOFTMAX) {
    block.copy_(at::softmax(block, 0));
  }
}

void ActivateVoxels(v1::Activation activation, float* scores, std::int64_t channels,
                    std::int64_t channel_stride, std::int64_t voxels) {
  if (activation == v1::ACTIVATION_NONE) return;
  const at::Tensor block = at::zeros({channels, kBlockVoxels}, at::kFloat);
  float* const values = block.mutable_data_ptr<float>();
  for (std::int64_t begin = 0; begin < voxels; begin += kBlockVoxels) {
    const std::int64_t count = std::min(kBlockVoxels, voxels - begin);
    for (std::int64_t c = 0; c < channels; ++c) {
      std::copy_n(scores + c * channel_stride + begin, count, values + c * kBlockVoxels);
    }
    ActivateBlock(activation, block);
    for (std::int64_t c = 0; c < channels; ++c) {
      std::copy_n(values + c * kBlockVoxels, count, scores + c * channel_stride + begin);
    }
  }
}

}  // namespace tomoserve::pipeline
