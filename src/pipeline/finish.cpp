#include "pipeline/finish.h"

#include <ATen/ops/zeros.h>

#include <utility>
#include <vector>

#include "pipeline/cropped_scores.h"
#include "pipeline/decode.h"
#include "pipeline/decode_on_device.h"
#include "pipeline/decode_rules.h"
#include "pipeline/label_scores.h"
#include "pipeline/score_field.h"
#include "pipeline/tensor_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/crop.h"
#include "tomoserve/compute/on_device/transfer.h"

namespace tomoserve::pipeline {
namespace {

std::unique_ptr<ScoreReader> OnVolumeGrid(const RunPlan& plan, std::unique_ptr<ScoreReader> scores) {
  if (!plan.IsCropped()) return scores;
  return std::make_unique<CroppedScores>(std::move(scores), plan.box);
}

// Labels of the crop in those of the volume, 0 elsewhere.
at::Tensor OnVolumeGrid(const RunPlan& plan, const at::Tensor& labels) {
  if (!plan.IsCropped()) return labels;
  const auto [columns, rows, slices] = plan.volume.size_ijk();
  at::Tensor whole = at::zeros({slices, rows, columns}, labels.options());
  at::Tensor part = whole;
  for (std::int64_t axis = 0; axis < 3; ++axis) {
    const auto ijk = static_cast<std::size_t>(2 - axis);
    part = part.narrow(axis, plan.box.first_ijk[ijk], plan.box.size_ijk[ijk]);
  }
  part.copy_(labels);
  return whole;
}

// Has `decode` fill the labels of what a crop leaves, and inserts them into the label map.
template <typename Label, typename DecodeCrop>
absl::Status InLabelMap(const RunPlan& plan, std::span<Label> label_map, DecodeCrop decode) {
  if (!plan.IsCropped()) return decode(label_map);
  std::vector<Label> of_crop(plan.cropped.voxels());
  TS_RETURN_IF_ERROR(decode(std::span(of_crop)));
  compute::InsertInto<Label>(plan.volume, plan.box, of_crop, label_map);
  return absl::OkStatus();
}

template <typename Label>
absl::StatusOr<Decoded> DecodeWithLoops(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                        std::span<Label> label_map) {
  auto scores = std::make_unique<ScoreField>(std::move(sums), SumsInHalf(input.recipe));
  if (weights.defined()) TS_RETURN_IF_ERROR(scores->Divide(weights, input.parallel));
  weights.reset();
  TS_RETURN_IF_ERROR(InLabelMap<Label>(input.plan, label_map, [&](std::span<Label> labels) {
    return DecodeLabels<Label>(input.recipe, input.plan, input.to_volume, input.region, *scores, labels,
                               input.parallel);
  }));
  return Decoded{OnVolumeGrid(input.plan, std::move(scores)), {}};
}

template <typename Label>
absl::StatusOr<Decoded> DecodeWithTensors(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                          std::span<Label> label_map) {
  auto scores = std::make_unique<TensorScores>(std::move(sums), SumsInHalf(input.recipe));
  if (weights.defined()) TS_RETURN_IF_ERROR(scores->Divide(weights));
  weights.reset();
  TS_ASSIGN_OR_RETURN(at::Tensor labels,
                      DecodeOnDevice<Label>(input.recipe, input.plan, input.to_volume, input.region,
                                            input.placement.device, *scores, input.parallel));
  labels = OnVolumeGrid(input.plan, labels);
  TS_RETURN_IF_ERROR(compute::on_device::Download(labels, std::as_writable_bytes(label_map), input.parallel));
  return Decoded{OnVolumeGrid(input.plan, std::move(scores)), std::move(labels)};
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

template <typename Label>
absl::StatusOr<Decoded> DecodePieced(const DecodeInput& input, PiecedLabels made,
                                     std::span<Label> label_map) {
  std::vector<Label> model_labels(made.labels.begin(), made.labels.end());
  made.labels = {};
  TS_RETURN_IF_ERROR(InLabelMap<Label>(input.plan, label_map, [&](std::span<Label> labels) {
    return DecodeMadeLabels<Label>(input.recipe, input.plan, input.to_volume, input.region,
                                   std::move(model_labels), labels, input.parallel);
  }));
  return Decoded{
      OnVolumeGrid(input.plan, std::make_unique<LabelScores>(std::move(made.scores), input.to_volume)), {}};
}

template absl::StatusOr<Decoded> Decode<std::uint8_t>(const DecodeInput&, at::Tensor, at::Tensor,
                                                      std::span<std::uint8_t>);
template absl::StatusOr<Decoded> Decode<std::uint16_t>(const DecodeInput&, at::Tensor, at::Tensor,
                                                       std::span<std::uint16_t>);

template absl::StatusOr<Decoded> DecodePieced<std::uint8_t>(const DecodeInput&, PiecedLabels,
                                                            std::span<std::uint8_t>);
template absl::StatusOr<Decoded> DecodePieced<std::uint16_t>(const DecodeInput&, PiecedLabels,
                                                             std::span<std::uint16_t>);

}  // namespace tomoserve::pipeline
