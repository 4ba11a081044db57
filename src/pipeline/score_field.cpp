#include "pipeline/score_field.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "pipeline/activation.h"
#include "pipeline/decode_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/nnunet_windows.h"

namespace tomoserve::pipeline {
namespace {

// In place, the scores of one voxel.
void ActivateOne(v1::Activation activation, std::span<float> scores) {
  if (activation == v1::ACTIVATION_SIGMOID) {
    for (float& score : scores) score = 1 / (1 + std::exp(-score));
  } else if (activation == v1::ACTIVATION_SOFTMAX) {
    const float highest = *std::max_element(scores.begin(), scores.end());
    float sum = 0;
    for (float& score : scores) {
      score = std::exp(score - highest);
      sum += score;
    }
    for (float& score : scores) score /= sum;
  }
}

at::Tensor Wrapped(std::span<float> values) {
  return at::from_blob(values.data(), {static_cast<std::int64_t>(values.size())},
                       at::TensorOptions().dtype(at::kFloat));
}

}  // namespace

ScoreField::ScoreField(at::Tensor scores, bool half) : scores_(std::move(scores)), half_(half) {}

std::span<const float> ScoreField::all() const {
  return {scores_.const_data_ptr<float>(), static_cast<std::size_t>(scores_.numel())};
}

absl::Status ScoreField::Divide(const at::Tensor& weights, const compute::Parallel& parallel) {
  float* const scores = scores_.mutable_data_ptr<float>();
  const float* const divisors = weights.const_data_ptr<float>();
  const std::int64_t slices = scores_.size(1);
  const auto slice_size = static_cast<std::size_t>(scores_.stride(1));
  std::atomic<bool> finite{true};
  TS_RETURN_IF_ERROR(compute::ParallelFor(parallel, channels() * slices, [&](std::int64_t index, int) {
    float* const row = scores + static_cast<std::size_t>(index) * slice_size;
    const float* const divisor = divisors + static_cast<std::size_t>(index % slices) * slice_size;
    for (std::size_t v = 0; v < slice_size; ++v) row[v] /= divisor[v];
    if (!half_) return;
    const at::Tensor values = Wrapped({row, slice_size});
    compute::RoundToHalf(values);
    if (!compute::AllFinite(values)) finite = false;
  }));
  return finite ? absl::OkStatus() : SumsNotFinite();
}

absl::Status ScoreField::Activate(v1::Activation activation, const compute::Parallel& parallel) {
  if (activation == v1::ACTIVATION_NONE) return absl::OkStatus();
  if (on_volume_grid()) {
    later_.push_back(activation);
    return absl::OkStatus();
  }
  half_ = false;
  float* const scores = scores_.mutable_data_ptr<float>();
  return compute::ParallelFor(parallel, scores_.size(1), [&](std::int64_t slice, int) {
    ActivateVoxels(activation, scores + slice * scores_.stride(1), channels(), scores_.stride(0),
                   scores_.stride(1));
  });
}

void ScoreField::ToVolumeGrid(const compute::GridMap& map, v1::Interpolation interpolation) {
  const auto channel_size = static_cast<std::size_t>(scores_.stride(0));
  readers_.clear();
  for (std::int64_t channel = 0; channel < channels(); ++channel) {
    readers_.emplace_back(all().subspan(static_cast<std::size_t>(channel) * channel_size, channel_size), map,
                          interpolation);
  }
}

void ScoreField::Read(std::int64_t k, std::span<float> out, std::vector<float>& scratch) const {
  const std::size_t slice_size = out.size() / readers_.size();
  for (std::size_t channel = 0; channel < readers_.size(); ++channel) {
    readers_[channel].Read(k, out.subspan(channel * slice_size, slice_size), scratch);
  }
  if (half_) compute::RoundToHalf(Wrapped(out));
  for (const v1::Activation activation : later_) {
    const auto voxels = static_cast<std::int64_t>(slice_size);
    ActivateVoxels(activation, out.data(), channels(), voxels, voxels);
  }
}

float ScoreField::At(std::int64_t channel, std::int64_t k, std::int64_t j, std::int64_t i) const {
  const auto wanted = static_cast<std::size_t>(channel);
  const auto read = [&](const compute::SliceReader& reader) {
    const float score = reader.At(k, j, i);
    return half_ ? static_cast<float>(c10::Half(score)) : score;
  };
  if (later_.empty()) return read(readers_[wanted]);
  std::vector<float> scores;
  scores.reserve(readers_.size());
  for (const compute::SliceReader& reader : readers_) scores.push_back(read(reader));
  for (const v1::Activation activation : later_) ActivateOne(activation, scores);
  return scores[wanted];
}

absl::Status ScoreField::ReadRuns(std::span<const std::int64_t> channels,
                                  std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                                  const compute::Parallel& parallel) const {
  std::vector<std::vector<float>> scores(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  return compute::ParallelFor(parallel, static_cast<std::int64_t>(parts.size()),
                              [&](std::int64_t index, int worker) {
                                std::vector<float>& of_part = scores[static_cast<std::size_t>(worker)];
                                of_part.clear();
                                for (const compute::RowRun& run : parts[static_cast<std::size_t>(index)]) {
                                  for (std::int32_t i = run.first_i; i <= run.last_i; ++i) {
                                    float highest = At(channels[0], run.k, run.j, i);
                                    for (const std::int64_t channel : channels.subspan(1)) {
                                      highest = std::max(highest, At(channel, run.k, run.j, i));
                                    }
                                    of_part.push_back(highest);
                                  }
                                }
                                use(static_cast<std::size_t>(index), of_part);
                              });
}

}  // namespace tomoserve::pipeline
