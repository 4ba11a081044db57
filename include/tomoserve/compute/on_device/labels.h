// From scores to labels with tensor operations; see compute/labels.h for what they mean. Labels are uint8, or
// int16 that holds the bits of uint16, on which ATen has no operations. All may throw what ATen throws.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "tomoserve/compute/labels.h"

namespace tomoserve::compute::on_device {

// The type of label tensors that stands for Label.
template <typename Label>
inline constexpr at::ScalarType kLabelType = sizeof(Label) == 1 ? at::kByte : at::kShort;

// ArgMaxLabels of scores [C][...] into labels [...].
void ArgMaxLabels(const at::Tensor& scores, const at::Tensor& labels);

// ThresholdLabels of scores [C][...] into labels [...].
template <typename Label>
void ThresholdLabels(const at::Tensor& scores, float above, std::span<const Paint<Label>> paints,
                     const at::Tensor& labels);

// MergeLabels of a contiguous label tensor.
template <typename Label>
void MergeLabels(const at::Tensor& labels, std::span<const std::uint32_t> from, std::uint32_t into);

}  // namespace tomoserve::compute::on_device
