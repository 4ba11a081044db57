#include "apps/tomoserve_worker/model_batcher.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <utility>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::worker {

ModelBatcher::ModelBatcher(std::vector<std::uint32_t> buckets, double window_ms,
                           std::vector<std::shared_ptr<const engine::Network>> networks,
                           RunResources resources)
    : Batcher(std::move(buckets), window_ms),
      networks_(std::move(networks)),
      resources_(std::move(resources)) {}

// One input of `bucket` windows: the slots', and zeros where there are fewer, or one could not be had.
absl::StatusOr<at::Tensor> ModelBatcher::Gather(const engine::Network& network, std::span<Slot* const> slots,
                                                std::uint32_t bucket) const {
  std::vector<std::int64_t> shape(network.window_shape().begin(), network.window_shape().end());
  const std::vector<std::int64_t> window_shape = shape;
  shape[0] = bucket;
  at::Tensor batch = at::empty(shape, at::TensorOptions(at::kFloat).device(resources_.device.device()));
  for (std::uint32_t position = 0; position < bucket; ++position) {
    at::Tensor row = batch.narrow(0, position, 1);
    if (position >= slots.size()) {
      row.zero_();
      continue;
    }
    Slot& slot = *slots[position];
    const absl::StatusOr<at::Tensor> window = static_cast<Run&>(*slot.job).Gather(slot.window);
    if (window.ok() && window->sizes() == at::IntArrayRef(window_shape)) {
      row.copy_(*window);
    } else if (window.ok()) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "BATCH_SHAPE", "",
                         "a window does not have the shape that batches were proved with");
    } else if (base::ReasonOf(window.status()) == "OUT_OF_MEMORY") {
      return window.status();
    } else {
      slot.status = window.status();
      row.zero_();
    }
  }
  return batch;
}

absl::Status ModelBatcher::Forward(std::span<Slot> slots, std::uint32_t bucket, std::uint32_t) {
  resources_.device.Use();
  for (std::size_t n = 0; n < networks_.size(); ++n) {
    std::vector<Slot*> own;
    for (Slot& slot : slots) {
      if (static_cast<const Run&>(*slot.job).NetworkOf(slot.window) == n) own.push_back(&slot);
    }
    if (own.empty()) continue;
    // A window's bits are the same in every bucket.
    const auto windows = static_cast<std::uint32_t>(own.size());
    TS_RETURN_IF_ERROR(ForwardOn(*networks_[n], own, windows == slots.size() ? bucket : BucketFor(windows)));
  }
  return absl::OkStatus();
}

absl::Status ModelBatcher::ForwardOn(const engine::Network& network, std::span<Slot* const> slots,
                                     std::uint32_t bucket) {
  resources_.in_flight->AwaitRoom();
  const std::vector<std::int64_t>& mirrored =
      static_cast<const Run&>(*slots.front()->job).mirror_dimensions();
  const absl::StatusOr<pipeline::Outputs> outputs =
      compute::Fenced([&]() -> absl::StatusOr<pipeline::Outputs> {
        TS_ASSIGN_OR_RETURN(const at::Tensor batch, Gather(network, slots, bucket));
        return pipeline::ForwardMirrored(batch, mirrored,
                                         [&](const at::Tensor& input) { return network.Forward(input); });
      });
  TS_RETURN_IF_ERROR(outputs.status());
  resources_.in_flight->Mark();
  return compute::Fenced([&] {
    for (std::size_t position = 0; position < slots.size(); ++position) {
      if (!slots[position]->status.ok()) continue;
      // Views: the batch's outputs live until the last of its windows is folded, on a GPU at once.
      pipeline::Outputs own;
      for (const at::Tensor& output : outputs->tensors) {
        own.tensors.push_back(output.narrow(0, static_cast<std::int64_t>(position), 1));
      }
      slots[position]->output = Run::OutputOf(std::move(own));
    }
    return absl::OkStatus();
  });
}

void ModelBatcher::FreeMemory() { resources_.device.FreeCache(); }

}  // namespace tomoserve::worker
