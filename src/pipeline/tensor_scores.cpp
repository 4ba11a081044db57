#include "pipeline/tensor_scores.h"

#include <ATen/ops/maximum.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <utility>

#include "pipeline/decode_rules.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"
#include "tomoserve/compute/intensity.h"
#include "tomoserve/compute/nnunet_windows.h"
#include "tomoserve/compute/on_device/chunks.h"
#include "tomoserve/compute/on_device/runs.h"

namespace tomoserve::pipeline {
namespace {

using compute::RowRun;

// Reading single voxels takes indices and corners: so many float32 values for each score.
constexpr std::int64_t kValuesOfScore = 8;

// Of scores [C][...], in a new tensor.
at::Tensor Activated(const at::Tensor& scores, v1::Activation activation) {
  if (activation == v1::ACTIVATION_SIGMOID) return scores.sigmoid();
  if (activation == v1::ACTIVATION_SOFTMAX) return at::softmax(scores, 0);
  return scores;
}

}  // namespace

TensorScores::TensorScores(at::Tensor scores, bool half) : scores_(std::move(scores)), half_(half) {}

absl::Status TensorScores::Divide(const at::Tensor& weights) {
  scores_.div_(weights);
  if (!half_) return absl::OkStatus();
  ForSlices([](std::int64_t, const at::Tensor& scores) { compute::RoundToHalf(scores); });
  return compute::AllFiniteFlag(scores_).item<bool>() ? absl::OkStatus() : SumsNotFinite();
}

void TensorScores::Activate(v1::Activation activation) {
  if (activation == v1::ACTIVATION_NONE) return;
  if (on_volume_grid()) {
    later_.push_back(activation);
    return;
  }
  half_ = false;
  ForSlices([&](std::int64_t, const at::Tensor& scores) { scores.copy_(Activated(scores, activation)); });
}

void TensorScores::ToVolumeGrid(const compute::GridMap& map, v1::Interpolation interpolation) {
  map_.emplace(map, interpolation, scores_.device());
}

void TensorScores::ForSlices(
    const std::function<void(std::int64_t first, const at::Tensor& scores)>& use) const {
  if (!map_) {
    const std::int64_t step = compute::on_device::SlicesOfChunk(channels() * scores_.stride(1));
    compute::on_device::ForRanges(scores_.size(1), step, [&](std::int64_t first, std::int64_t count) {
      use(first, scores_.narrow(1, first, count));
    });
    return;
  }
  compute::on_device::ForRanges(map_->size()[0], map_->SlicesAtOnce(channels()),
                                [&](std::int64_t first, std::int64_t count) {
                                  at::Tensor scores = map_->Read(scores_, first, count);
                                  if (half_) compute::RoundToHalf(scores);
                                  for (const v1::Activation activation : later_)
                                    scores = Activated(scores, activation);
                                  use(first, scores);
                                });
}

at::Tensor TensorScores::At(std::span<const std::int64_t> channels, const at::Tensor& indices) const {
  const auto [slices, rows, columns] = map_->size();
  const at::Tensor row = indices.floor_divide(columns);
  const at::Tensor k = row.floor_divide(rows);
  const std::array<at::Tensor, 3> kji{k, row.sub(k, rows), indices.sub(row, columns)};
  const auto read = [&](const at::Tensor& source) {
    at::Tensor scores = map_->At(source, kji);
    if (half_) compute::RoundToHalf(scores);
    return scores;
  };
  at::Tensor all;
  if (!later_.empty()) {  // a softmax looks at all channels
    all = read(scores_);
    for (const v1::Activation activation : later_) all = Activated(all, activation);
  }
  at::Tensor highest;
  for (const std::int64_t channel : channels) {
    const at::Tensor scores =
        all.defined() ? all.select(0, channel) : read(scores_.narrow(0, channel, 1)).select(0, 0);
    highest = highest.defined() ? at::maximum(highest, scores) : scores;
  }
  return highest;
}

absl::Status TensorScores::ReadRuns(std::span<const std::int64_t> wanted,
                                    std::span<const std::span<const RowRun>> parts, const Use& use,
                                    const compute::Parallel& parallel) const {
  const std::int64_t values_of_voxel = kValuesOfScore * (later_.empty() ? 1 : channels());
  return compute::Fenced([&]() -> absl::Status {
    std::size_t next = 0;
    while (next < parts.size()) {
      TS_RETURN_IF_ERROR(compute::CheckCancelled(parallel));
      // Many small parts are read together: each read waits for the device.
      const std::size_t first = next;
      std::vector<RowRun> runs;
      std::int64_t voxels = 0;
      while (next < parts.size() && voxels * values_of_voxel < compute::on_device::kChunkValues) {
        runs.insert(runs.end(), parts[next].begin(), parts[next].end());
        voxels += compute::on_device::VoxelsOf(parts[next]);
        ++next;
      }
      std::vector<float> scores;
      scores.reserve(static_cast<std::size_t>(voxels));
      for (const std::span<const RowRun> batch : compute::on_device::Batches(runs, values_of_voxel)) {
        const at::Tensor read =
            At(wanted, compute::on_device::FlatIndices(batch, map_->size(), scores_.device()))
                .cpu()
                .contiguous();
        scores.insert(scores.end(), read.const_data_ptr<float>(),
                      read.const_data_ptr<float>() + read.numel());
      }
      std::size_t begin = 0;
      for (std::size_t part = first; part < next; ++part) {
        const auto count = static_cast<std::size_t>(compute::on_device::VoxelsOf(parts[part]));
        use(part, std::span(scores).subspan(begin, count));
        begin += count;
      }
    }
    return absl::OkStatus();
  });
}

}  // namespace tomoserve::pipeline
