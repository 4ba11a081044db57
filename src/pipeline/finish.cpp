#include "pipeline/finish.h"

#include <utility>

#include "pipeline/decode.h"
#include "pipeline/decode_on_device.h"
#include "pipeline/score_field.h"
#include "pipeline/tensor_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/on_device/transfer.h"

namespace tomoserve::pipeline {
namespace {

template <typename Label>
absl::StatusOr<Decoded> DecodeWithLoops(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                        std::span<Label> label_map) {
  auto scores = std::make_unique<ScoreField>(std::move(sums));
  if (weights.defined()) TS_RETURN_IF_ERROR(scores->Divide(weights, input.parallel));
  weights.reset();
  TS_RETURN_IF_ERROR(
      DecodeLabels<Label>(input.recipe, input.plan, input.to_volume, *scores, label_map, input.parallel));
  return Decoded{std::move(scores), {}};
}

template <typename Label>
absl::StatusOr<Decoded> DecodeWithTensors(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                          std::span<Label> label_map) {
  auto scores = std::make_unique<TensorScores>(std::move(sums));
  if (weights.defined()) scores->Divide(weights);
  weights.reset();
  TS_ASSIGN_OR_RETURN(at::Tensor labels,
                      DecodeOnDevice<Label>(input.recipe, input.plan, input.to_volume, input.placement.device,
                                            *scores, input.parallel));
  TS_RETURN_IF_ERROR(compute::on_device::Download(labels, std::as_writable_bytes(label_map), input.parallel));
  return Decoded{std::move(scores), std::move(labels)};
}

}  // namespace

template <typename Label>
absl::StatusOr<Decoded> Decode(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                               std::span<Label> label_map) {
  if (input.placement.UsesLoops()) {
    return DecodeWithLoops<Label>(input, std::move(sums), std::move(weights), label_map);
  }
  return DecodeWithTensors<Label>(input, std::move(sums), std::move(weights), label_map);
}

template absl::StatusOr<Decoded> Decode<std::uint8_t>(const DecodeInput&, at::Tensor, at::Tensor,
                                                      std::span<std::uint8_t>);
template absl::StatusOr<Decoded> Decode<std::uint16_t>(const DecodeInput&, at::Tensor, at::Tensor,
                                                       std::span<std::uint16_t>);

}  // namespace tomoserve::pipeline
