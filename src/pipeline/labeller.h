// What an arg_max or threshold step makes of the scores of voxels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pipeline/decode_rules.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::pipeline {

template <typename Label>
class Labeller {
 public:
  Labeller(const v1::Recipe& recipe, const v1::DecodeStep& step)
      : channels_(recipe.network().output_channels()), arg_max_(step.has_arg_max()) {
    if (arg_max_ && models::IsComposite(recipe)) {
      values_.push_back(0);
      for (std::uint32_t channel = 1; channel < recipe.network().output_channels(); ++channel) {
        values_.push_back(static_cast<Label>(ArgMaxLabel(recipe, channel)));
      }
    }
    if (arg_max_) return;
    above_ = static_cast<float>(step.threshold().above());
    paints_ = PaintsOf<Label>(recipe, step.threshold());
  }

  // Of as many voxels as `labels` has; their channels lie `channel_stride` values apart. Thread-safe.
  void Apply(std::span<const float> scores, std::int64_t channel_stride, std::span<Label> labels) const {
    if (arg_max_) {
      compute::ArgMaxLabels<Label>(scores, channels_, channel_stride, labels);
      if (values_.empty()) return;
      for (Label& label : labels) label = values_[label];
    } else {
      compute::ThresholdLabels<Label>(scores, channel_stride, above_, paints_, labels);
    }
  }

 private:
  std::int64_t channels_;
  bool arg_max_;
  std::vector<Label> values_;  // by channel, where they are not the channel
  float above_ = 0;
  std::vector<compute::Paint<Label>> paints_;
};

}  // namespace tomoserve::pipeline
