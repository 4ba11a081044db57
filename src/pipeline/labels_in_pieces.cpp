#include "pipeline/labels_in_pieces.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <span>
#include <utility>

#include "pipeline/activation.h"
#include "pipeline/own_scores.h"

namespace tomoserve::pipeline {
namespace {

const v1::DecodeStep& LabelStep(const v1::Recipe& recipe) {
  return *std::find_if(recipe.decode().begin(), recipe.decode().end(),
                       [](const v1::DecodeStep& step) { return step.has_arg_max() || step.has_threshold(); });
}

compute::Xyz SizeOf(const compute::ModelGrid& grid) {
  const auto [x, y, z] = grid.geometry.size_ijk();
  return {x, y, z};
}

// Copies a cell's values into an array of the model grid with these strides along x, y, z.
template <typename Value>
void Insert(const compute::FinalCell& cell, const std::vector<Value>& of_cell, const compute::Xyz& strides,
            std::vector<Value>& all) {
  std::array<std::size_t, 3> order{0, 1, 2};  // slowest in the cell's memory first
  const auto stride = [&](std::size_t axis) { return cell.sums.stride(static_cast<std::int64_t>(1 + axis)); };
  const auto size = [&](std::size_t axis) { return cell.sums.size(static_cast<std::int64_t>(1 + axis)); };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return stride(a) > stride(b); });
  const auto [slow, middle, fast] = order;
  std::int64_t begin = 0;
  for (std::size_t axis = 0; axis < 3; ++axis) begin += cell.begin[axis] * strides[axis];
  for (std::int64_t s = 0; s < size(slow); ++s) {
    for (std::int64_t m = 0; m < size(middle); ++m) {
      const Value* const from = of_cell.data() + s * stride(slow) + m * stride(middle);
      Value* const to = all.data() + begin + s * strides[slow] + m * strides[middle];
      const std::int64_t from_step = stride(fast);
      const std::int64_t to_step = strides[fast];
      for (std::int64_t f = 0; f < size(fast); ++f) to[f * to_step] = from[f * from_step];
    }
  }
}

}  // namespace

LabelsInPieces::LabelsInPieces(const v1::Recipe& recipe, const RunPlan& plan, at::Tensor importance)
    : channels_(recipe.network().output_channels()),
      labeller_(recipe, LabelStep(recipe)),
      channels_of_(ChannelsOfMadeLabels(recipe)),
      // Each voxel is answered once where windows are slices.
      sums_(SizeOf(plan.grid), plan.windows, channels_, std::move(importance),
            recipe.windows().layout() != v1::WINDOW_LAYOUT_SLICES) {
  for (const v1::DecodeStep& step : recipe.decode()) {
    if (step.has_activation() && step.activation() != v1::ACTIVATION_NONE) {
      activations_.push_back(step.activation());
    }
  }
  const std::array<std::int64_t, 3> size = compute::MemorySize(plan.grid);
  const std::array<std::int64_t, 3> strides{size[1] * size[2], size[2], 1};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    strides_[axis] = strides[static_cast<std::size_t>(2 - plan.grid.reorientation.source_axis[axis])];
  }
  const auto voxels = static_cast<std::size_t>(size[0] * size[1] * size[2]);
  made_.labels.resize(voxels);
  if (!recipe.findings().empty()) made_.scores.resize(voxels);
}

void LabelsInPieces::Add(std::uint32_t window, const at::Tensor& output) {
  sums_.Add(window, output, [&](const compute::FinalCell& cell) { MakeLabels(cell); });
}

void LabelsInPieces::MakeLabels(const compute::FinalCell& cell) {
  const std::int64_t voxels = cell.sums.numel() / channels_;
  const float* const sums = cell.sums.const_data_ptr<float>();
  const float* const weights = cell.weights.defined() ? cell.weights.const_data_ptr<float>() : nullptr;
  std::vector<std::uint16_t> labels(static_cast<std::size_t>(voxels));
  std::vector<float> scores(made_.scores.empty() ? 0 : labels.size());
  const at::Tensor block = at::zeros({channels_, kBlockVoxels}, at::kFloat);
  float* const of_block = block.mutable_data_ptr<float>();
  for (std::int64_t begin = 0; begin < voxels; begin += kBlockVoxels) {
    const std::int64_t count = std::min(kBlockVoxels, voxels - begin);
    for (std::int64_t c = 0; c < channels_; ++c) {
      const float* const from = sums + c * voxels + begin;
      float* const to = of_block + c * kBlockVoxels;
      if (weights == nullptr) {
        std::copy_n(from, count, to);
      } else {
        for (std::int64_t v = 0; v < count; ++v) to[v] = from[v] / weights[begin + v];
      }
    }
    for (const v1::Activation activation : activations_) ActivateBlock(activation, block);
    const std::span<const float> values(of_block, static_cast<std::size_t>(block.numel()));
    const std::span<std::uint16_t> of_voxels =
        std::span(labels).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count));
    labeller_.Apply(values, kBlockVoxels, of_voxels);
    if (!scores.empty()) SetOwnScores(channels_of_, values, kBlockVoxels, of_voxels, scores.data() + begin);
  }
  Insert(cell, labels, strides_, made_.labels);
  if (!scores.empty()) Insert(cell, scores, strides_, made_.scores);
}

}  // namespace tomoserve::pipeline
