#include "pipeline/finish.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "pipeline/cropped_scores.h"
#include "pipeline/decode.h"
#include "pipeline/decode_on_device.h"
#include "pipeline/decode_rules.h"
#include "pipeline/label_scores.h"
#include "pipeline/model_scores.h"
#include "pipeline/score_field.h"
#include "pipeline/tensor_scores.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/crop.h"
#include "tomoserve/compute/grid_map.h"
#include "tomoserve/compute/on_device/labels.h"
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
absl::StatusOr<Decoded<Label>> DecodeWithLoops(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                               std::span<Label> label_map) {
  auto scores = std::make_unique<ScoreField>(std::move(sums), SumsInHalf(input.recipe));
  if (weights.defined()) TS_RETURN_IF_ERROR(scores->Divide(weights, input.parallel));
  weights.reset();
  ModelLabels<Label> model;
  TS_RETURN_IF_ERROR(InLabelMap<Label>(input.plan, label_map, [&](std::span<Label> labels) -> absl::Status {
    TS_ASSIGN_OR_RETURN(model.labels, DecodeLabels<Label>(input.recipe, input.plan, input.to_volume,
                                                          input.region, *scores, labels, input.parallel));
    return absl::OkStatus();
  }));
  if (!model.labels.empty()) {
    model.scores = std::make_unique<ModelScores>(*scores, compute::MemorySize(input.plan.grid));
  }
  return Decoded<Label>{OnVolumeGrid(input.plan, std::move(scores)), {}, std::move(model)};
}

// Downloads a device's labels of the model grid. `scores` is copied.
template <typename Label, typename Reader>
absl::StatusOr<ModelLabels<Label>> OnModelGrid(const DecodeInput& input, at::Tensor labels,
                                               TensorScores scores) {
  ModelLabels<Label> model;
  model.labels.resize(static_cast<std::size_t>(labels.numel()));
  TS_RETURN_IF_ERROR(
      compute::on_device::Download(labels, std::as_writable_bytes(std::span(model.labels)), input.parallel));
  model.on_device = std::move(labels);
  scores.ToVolumeGrid(IdentityMap(compute::MemorySize(input.plan.grid)), v1::INTERPOLATION_NEAREST);
  model.scores = std::make_unique<Reader>(std::move(scores));
  return model;
}

// `labels` becomes that of the volume.
template <typename Label>
absl::Status FillLabelMap(const DecodeInput& input, at::Tensor& labels, std::span<Label> label_map) {
  labels = OnVolumeGrid(input.plan, labels);
  return compute::on_device::Download(labels, std::as_writable_bytes(label_map), input.parallel);
}

template <typename Label>
absl::StatusOr<Decoded<Label>> DecodeWithTensors(const DecodeInput& input, at::Tensor sums,
                                                 at::Tensor weights, std::span<Label> label_map) {
  auto scores = std::make_unique<TensorScores>(std::move(sums), SumsInHalf(input.recipe));
  if (weights.defined()) TS_RETURN_IF_ERROR(scores->Divide(weights));
  weights.reset();
  TS_ASSIGN_OR_RETURN(DeviceLabels labels,
                      DecodeOnDevice<Label>(input.recipe, input.plan, input.to_volume, input.region,
                                            input.placement.device, *scores, input.parallel));
  ModelLabels<Label> model;
  if (labels.model.defined()) {
    TS_ASSIGN_OR_RETURN(model, (OnModelGrid<Label, TensorScores>(input, std::move(labels.model), *scores)));
  }
  TS_RETURN_IF_ERROR(FillLabelMap(input, labels.labels, label_map));
  return Decoded<Label>{OnVolumeGrid(input.plan, std::move(scores)), std::move(labels.labels),
                        std::move(model)};
}

// Reads each voxel of the crop's own grid where it is.
compute::GridMap MapOfCrop(const RunPlan& plan) {
  const auto [columns, rows, slices] = plan.cropped.size_ijk();
  return IdentityMap({slices, rows, columns});
}

// The only channel is the score of each voxel's own label.
class OwnTensorScores : public ScoreReader {
 public:
  explicit OwnTensorScores(TensorScores scores) : scores_(std::move(scores)) {}
  absl::Status ReadRuns(std::span<const std::int64_t>,
                        std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                        const compute::Parallel& parallel) const override {
    constexpr std::int64_t kOnly = 0;
    return scores_.ReadRuns({&kOnly, 1}, parts, use, parallel);
  }

 private:
  TensorScores scores_;
};

// The steps after those that have made labels, and the scores of their own labels.
template <typename Label>
absl::StatusOr<Decoded<Label>> DecodeMade(const DecodeInput& input, bool on_volume_grid, MadeLabels made,
                                          std::span<Label> label_map) {
  std::vector<Label> model_labels;
  if (!on_volume_grid) model_labels.assign(made.labels.begin(), made.labels.end());
  ModelLabels<Label> model;
  TS_RETURN_IF_ERROR(InLabelMap<Label>(input.plan, label_map, [&](std::span<Label> labels) -> absl::Status {
    if (on_volume_grid) std::copy(made.labels.begin(), made.labels.end(), labels.begin());
    made.labels = {};
    TS_ASSIGN_OR_RETURN(model.labels,
                        DecodeMadeLabels<Label>(input.recipe, input.plan, input.to_volume, input.region,
                                                std::move(model_labels), labels, input.parallel));
    return absl::OkStatus();
  }));
  const auto scores = std::make_shared<const std::vector<float>>(std::move(made.scores));
  if (!model.labels.empty()) {
    model.scores = std::make_unique<LabelScores>(scores, IdentityMap(compute::MemorySize(input.plan.grid)));
  }
  return Decoded<Label>{
      OnVolumeGrid(input.plan, std::make_unique<LabelScores>(
                                   scores, on_volume_grid ? MapOfCrop(input.plan) : input.to_volume)),
      {},
      std::move(model)};
}

}  // namespace

template <typename Label>
absl::StatusOr<Decoded<Label>> Decode(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                                      std::span<Label> label_map) {
  if (input.placement.UsesLoops()) {
    return DecodeWithLoops<Label>(input, std::move(sums), std::move(weights), label_map);
  }
  return DecodeWithTensors<Label>(input, std::move(sums), std::move(weights), label_map);
}

template <typename Label>
absl::StatusOr<Decoded<Label>> DecodePieced(const DecodeInput& input, MadeLabels made,
                                            std::span<Label> label_map) {
  return DecodeMade(input, /*on_volume_grid=*/false, std::move(made), label_map);
}

absl::Status PaintPart(const DecodeInput& input, at::Tensor sums, at::Tensor weights,
                       PaintedLabels& painted) {
  painted.on_volume_grid = MakesLabelsOnVolumeGrid(input.recipe);
  const bool half = SumsInHalf(input.recipe);
  if (input.placement.UsesLoops()) {
    ScoreField scores(std::move(sums), half);
    if (weights.defined()) TS_RETURN_IF_ERROR(scores.Divide(weights, input.parallel));
    weights.reset();
    TS_ASSIGN_OR_RETURN(MadeLabels made,
                        MakeLabels(input.recipe, input.plan, input.to_volume, scores, input.parallel));
    Paint(std::move(made), painted.loops);
    return absl::OkStatus();
  }
  TensorScores scores(std::move(sums), half);
  if (weights.defined()) TS_RETURN_IF_ERROR(scores.Divide(weights));
  weights.reset();
  TS_ASSIGN_OR_RETURN(TensorLabels made, MakeLabelsOnDevice(input.recipe, input.plan, input.to_volume,
                                                            input.placement.device, scores, input.parallel));
  Paint(std::move(made), painted.tensors);
  return absl::OkStatus();
}

template <typename Label>
absl::StatusOr<Decoded<Label>> DecodePainted(const DecodeInput& input, PaintedLabels painted,
                                             std::span<Label> label_map) {
  TS_RETURN_IF_ERROR(CheckLabelValues<Label>(input.recipe));
  if (input.placement.UsesLoops()) {
    return DecodeMade(input, painted.on_volume_grid, std::move(painted.loops), label_map);
  }
  at::Tensor own = painted.tensors.scores;
  if (!own.defined()) {  // no rule makes findings: nobody reads them
    own = at::zeros(painted.tensors.labels.sizes(), painted.tensors.labels.options().dtype(at::kFloat));
  }
  TensorScores scores(own.unsqueeze(0));
  if (painted.on_volume_grid) scores.ToVolumeGrid(MapOfCrop(input.plan), v1::INTERPOLATION_NEAREST);
  TS_ASSIGN_OR_RETURN(
      DeviceLabels labels,
      ChangeLabelsOnDevice<Label>(input.recipe, input.to_volume, input.region,
                                  painted.tensors.labels.to(compute::on_device::kLabelType<Label>), scores,
                                  input.parallel));
  ModelLabels<Label> model;
  if (labels.model.defined()) {
    TS_ASSIGN_OR_RETURN(model, (OnModelGrid<Label, OwnTensorScores>(input, std::move(labels.model), scores)));
  }
  TS_RETURN_IF_ERROR(FillLabelMap(input, labels.labels, label_map));
  return Decoded<Label>{OnVolumeGrid(input.plan, std::make_unique<OwnTensorScores>(std::move(scores))),
                        std::move(labels.labels), std::move(model)};
}

template absl::StatusOr<Decoded<std::uint8_t>> Decode<std::uint8_t>(const DecodeInput&, at::Tensor,
                                                                    at::Tensor, std::span<std::uint8_t>);
template absl::StatusOr<Decoded<std::uint16_t>> Decode<std::uint16_t>(const DecodeInput&, at::Tensor,
                                                                      at::Tensor, std::span<std::uint16_t>);

template absl::StatusOr<Decoded<std::uint8_t>> DecodePieced<std::uint8_t>(const DecodeInput&, MadeLabels,
                                                                          std::span<std::uint8_t>);
template absl::StatusOr<Decoded<std::uint16_t>> DecodePieced<std::uint16_t>(const DecodeInput&, MadeLabels,
                                                                            std::span<std::uint16_t>);

template absl::StatusOr<Decoded<std::uint8_t>> DecodePainted<std::uint8_t>(const DecodeInput&, PaintedLabels,
                                                                           std::span<std::uint8_t>);
template absl::StatusOr<Decoded<std::uint16_t>> DecodePainted<std::uint16_t>(const DecodeInput&,
                                                                             PaintedLabels,
                                                                             std::span<std::uint16_t>);

}  // namespace tomoserve::pipeline
