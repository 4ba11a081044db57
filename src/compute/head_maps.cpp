#include "tomoserve/compute/head_maps.h"

#include <ATen/ops/div.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <tuple>
#include <utility>

#include "compute/best_scores.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

constexpr std::size_t kDeltas = std::tuple_size_v<BoxDeltas>;
constexpr auto kDeltas64 = static_cast<std::int64_t>(kDeltas);
// Logits this much below the threshold's cannot pass it, however exp is rounded.
constexpr double kLogitMargin = 1e-3;
// Cells that are looked at together.
constexpr std::int64_t kPieceCells = std::int64_t{1} << 20;
// Logits that become scores together: whole vectors, because what is left over is computed otherwise and may
// differ in the last bit, and few enough that ATen does not divide them.
constexpr std::int64_t kLogits = 4096;

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

std::int64_t HalfToEven(double value) { return static_cast<std::int64_t>(std::nearbyint(value)); }

std::int64_t CellsOf(const Xyz& size) { return size[0] * size[1] * size[2]; }

// A level's maps of a volume whose windows are cut after all padding.
absl::StatusOr<LevelPlan> PlanLevel(const v1::BoxLevel& recipe, const HeadPlan& plan) {
  if (recipe.stride_size() != 3) return Invalid("decode[0].detect_boxes.levels", "three strides");
  LevelPlan level;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t stride = recipe.stride(static_cast<int>(axis));
    const std::int64_t window = plan.windows.size[axis];
    if (stride < 1) return Invalid("decode[0].detect_boxes.levels", "a stride is zero");
    if (plan.padded[axis] % stride != 0) {
      return Invalid("decode[0].detect_boxes.pad_to_multiple_of", "not a multiple of the strides");
    }
    if (window % stride != 0) return Invalid("windows.size", "not a multiple of the strides");
    level.stride[axis] = stride;
    level.window[axis] = window / stride;
    level.stitched[axis] = std::max(plan.padded[axis], window) / stride;
    level.size[axis] = level.stitched[axis];
    if (window > plan.padded[axis]) {
      // MONAI's rounding: half a cell off, and a cell more or less, where the padding is no whole number of
      // them.
      const double cells_per_voxel = static_cast<double>(level.stitched[axis]) / static_cast<double>(window);
      const std::int64_t before = plan.pad_before[axis];
      level.first[axis] = HalfToEven(static_cast<double>(before) * cells_per_voxel);
      const std::int64_t end = HalfToEven(static_cast<double>(before + plan.padded[axis]) * cells_per_voxel);
      level.size[axis] = std::min(end, level.stitched[axis]) - level.first[axis];
    }
    level.anchor_stride[axis] = level.size[axis] > 0 ? plan.padded[axis] / level.size[axis] : stride;
  }
  return level;
}

// The values of a contiguous tensor at `indices`, on the host.
std::vector<float> Take(const at::Tensor& tensor, std::vector<std::int64_t>& indices) {
  const at::Tensor on_host = at::from_blob(indices.data(), {static_cast<std::int64_t>(indices.size())},
                                           at::TensorOptions(at::kLong));
  const at::Tensor taken =
      at::index_select(tensor.reshape({-1}), 0, on_host.to(tensor.device())).cpu().contiguous();
  const std::span<const float> values(taken.const_data_ptr<float>(), indices.size());
  return {values.begin(), values.end()};
}

// Calls work(n, score) for logits on the host. Equal logits have equal scores.
template <typename Work>
void ForScores(const at::Tensor& logits, Work work) {
  const at::Tensor block = at::zeros({kLogits}, at::TensorOptions(at::kFloat));
  for (std::int64_t first = 0; first < logits.numel(); first += kLogits) {
    const std::int64_t count = std::min(kLogits, logits.numel() - first);
    block.narrow(0, 0, count).copy_(logits.narrow(0, first, count));
    const at::Tensor scores = at::sigmoid(block);
    for (std::int64_t n = 0; n < count; ++n) work(first + n, scores.const_data_ptr<float>()[n]);
  }
}

}  // namespace

absl::StatusOr<HeadPlan> PlanHeads(const v1::DetectBoxes& boxes, std::uint32_t classes,
                                   const v1::Windows& windows, const Xyz& volume) {
  if (!boxes.pad_to_multiple_of().empty() && boxes.pad_to_multiple_of_size() != 3) {
    return Invalid("decode[0].detect_boxes.pad_to_multiple_of", "three numbers");
  }
  if (windows.size_size() != 3) return Invalid("windows.size", "three numbers");
  HeadPlan plan;
  plan.volume = volume;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int field = static_cast<int>(axis);
    const std::int64_t multiple =
        boxes.pad_to_multiple_of().empty() ? 1 : std::int64_t{boxes.pad_to_multiple_of(field)};
    if (multiple < 1) return Invalid("decode[0].detect_boxes.pad_to_multiple_of", "a multiple is zero");
    plan.padded[axis] = (volume[axis] + multiple - 1) / multiple * multiple;
  }
  if (static_cast<std::uint64_t>(CellsOf(volume)) < boxes.whole_below_voxels()) {
    plan.windows = {plan.padded, {{0, 0, 0}}, plan.padded, {}};
  } else {
    TS_ASSIGN_OR_RETURN(
        plan.windows,
        MonaiWindows(plan.padded, {windows.size(0), windows.size(1), windows.size(2)}, windows.overlap()));
    for (std::size_t axis = 0; axis < 3; ++axis) {
      plan.pad_before[axis] = std::max<std::int64_t>(plan.windows.size[axis] - plan.padded[axis], 0) / 2;
    }
  }
  for (const v1::BoxLevel& level : boxes.levels()) {
    TS_ASSIGN_OR_RETURN(LevelPlan level_plan, PlanLevel(level, plan));
    plan.levels.push_back(level_plan);
  }
  if (plan.levels.empty()) return Invalid("decode[0].detect_boxes.levels", "at least one level");
  for (const std::int64_t values : {std::int64_t{classes}, kDeltas64}) {
    for (const LevelPlan& level : plan.levels) {
      const auto [x, y, z] = level.window;
      plan.shapes.push_back({1, boxes.anchors_size() * values, x, y, z});
    }
  }
  return plan;
}

HeadMaps::HeadMaps(HeadPlan plan, const v1::DetectBoxes& boxes, std::uint32_t classes, c10::Device device)
    : plan_(std::move(plan)), boxes_(boxes), classes_(classes), device_(device) {}

void HeadMaps::Add(std::size_t index, std::vector<at::Tensor> maps) {
  const std::size_t levels = plan_.levels.size();
  if (plan_.OneWindow()) {
    for (std::size_t level = 0; level < levels; ++level) {
      scores_.push_back(maps[level].squeeze(0));
      deltas_.push_back(maps[levels + level].squeeze(0));
    }
    return;
  }
  for (std::size_t level = 0; level < levels; ++level) {
    AddLevel(level, plan_.windows.starts[index], maps[level].squeeze(0), maps[levels + level].squeeze(0));
  }
}

void HeadMaps::AddLevel(std::size_t level, const Xyz& start, const at::Tensor& scores,
                        const at::Tensor& boxes) {
  const LevelPlan& plan = plan_.levels[level];
  if (counts_.size() == level) {
    const at::TensorOptions options = at::TensorOptions(at::kFloat).device(device_);
    const auto [x, y, z] = plan.stitched;
    scores_.push_back(at::zeros({scores.size(0), x, y, z}, options));
    deltas_.push_back(at::zeros({boxes.size(0), x, y, z}, options));
    counts_.push_back(at::zeros({x, y, z}, options));
  }
  const auto part = [&](const at::Tensor& sums) {
    at::Tensor view = sums;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      // A start that is no whole number of cells is rounded down, as MONAI does it.
      const std::int64_t first = (start[axis] + plan_.pad_before[axis]) / plan.stride[axis];
      view = view.narrow(sums.dim() - 3 + static_cast<std::int64_t>(axis), first, plan.window[axis]);
    }
    return view;
  };
  part(scores_[level]).add_(scores);
  part(deltas_[level]).add_(boxes);
  part(counts_[level]).add_(1);
}

std::vector<Detection> HeadMaps::Candidates() const {
  std::vector<Detection> candidates;
  for (std::size_t level = 0; level < plan_.levels.size(); ++level) AddCandidates(level, candidates);
  return candidates;
}

// Piece by piece, and of what may pass the threshold only the best so far.
std::vector<HeadMaps::Cell> HeadMaps::BestCells(std::size_t level) const {
  const LevelPlan& plan = plan_.levels[level];
  const std::int64_t channels = scores_[level].size(0);
  const double above = boxes_.score_above();
  const double least_logit = std::log(above / (1 - above)) - kLogitMargin;
  const std::int64_t plane = plan.size[1] * plan.size[2];
  const std::int64_t step = std::max<std::int64_t>(kPieceCells / plane, 1);
  BestScores best(boxes_.candidates_per_level());
  for (std::int64_t channel = 0; channel < channels; ++channel) {
    for (std::int64_t x = 0; x < plan.size[0]; x += step) {
      const auto piece = [&](const at::Tensor& map) {
        return map.narrow(0, plan.first[0] + x, std::min(step, plan.size[0] - x))
            .narrow(1, plan.first[1], plan.size[1])
            .narrow(2, plan.first[2], plan.size[2]);
      };
      at::Tensor logits = piece(scores_[level].select(0, channel));
      if (!counts_.empty()) logits = logits.div(piece(counts_[level]));
      logits = logits.reshape({-1});
      const at::Tensor likely = at::nonzero(logits.gt(least_logit)).reshape({-1});
      const at::Tensor indices = likely.cpu();
      ForScores(at::index_select(logits, 0, likely).cpu(), [&](std::int64_t n, float score) {
        if (!(score > static_cast<float>(above))) return;
        const std::int64_t cell = x * plane + indices.const_data_ptr<std::int64_t>()[n];
        best.Add({score, cell * channels + channel});
      });
    }
  }
  std::vector<Cell> cells;
  for (const Scored& scored : best.Sorted()) {
    Cell cell{scored.score, {}, scored.place % channels};
    std::int64_t index = scored.place / channels;
    for (std::size_t axis = 3; axis-- > 0;) {
      cell.xyz[axis] = index % plan.size[axis];
      index /= plan.size[axis];
    }
    cells.push_back(cell);
  }
  return cells;
}

// As the network answered them, windows averaged.
std::vector<BoxDeltas> HeadMaps::DeltasOf(std::size_t level, std::span<const Cell> cells) const {
  const LevelPlan& plan = plan_.levels[level];
  std::vector<std::int64_t> places;
  std::vector<std::int64_t> wanted;
  for (const Cell& cell : cells) {
    std::int64_t place = 0;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      place = place * plan.stitched[axis] + plan.first[axis] + cell.xyz[axis];
    }
    places.push_back(place);
    const std::int64_t anchor = cell.channel / classes_;
    for (std::int64_t delta = 0; delta < kDeltas64; ++delta) {
      wanted.push_back((anchor * kDeltas64 + delta) * CellsOf(plan.stitched) + place);
    }
  }
  const std::vector<float> values = Take(deltas_[level], wanted);
  const std::vector<float> counts =
      counts_.empty() ? std::vector<float>(places.size(), 1) : Take(counts_[level], places);
  std::vector<BoxDeltas> deltas(cells.size());
  for (std::size_t n = 0; n < wanted.size(); ++n) {
    deltas[n / kDeltas][n % kDeltas] = values[n] / counts[n / kDeltas];
  }
  return deltas;
}

void HeadMaps::AddCandidates(std::size_t level, std::vector<Detection>& candidates) const {
  const LevelPlan& plan = plan_.levels[level];
  if (CellsOf(plan.size) == 0) return;
  const std::vector<Cell> cells = BestCells(level);
  if (cells.empty()) return;
  const std::vector<BoxDeltas> deltas = DeltasOf(level, cells);
  std::vector<Box> anchors;
  for (const v1::AnchorShape& shape : boxes_.anchors()) {
    anchors.push_back(AnchorOf({shape.size(0), shape.size(1), shape.size(2)},
                               boxes_.levels(static_cast<int>(level)).anchor_scale()));
  }
  for (std::size_t n = 0; n < cells.size(); ++n) {
    Xyz centre{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const std::int64_t stride = plan.anchor_stride[axis];
      const bool middle = boxes_.anchor_centre() == v1::ANCHOR_CENTRE_CELL_MIDDLE;
      centre[axis] = cells[n].xyz[axis] * stride + (middle ? stride / 2 : 0);
    }
    const Box& anchor = anchors[static_cast<std::size_t>(cells[n].channel / classes_)];
    const std::optional<Box> box = ClipBox(DecodeBox(anchor, centre, deltas[n]), plan_.volume);
    if (!box) continue;
    candidates.push_back({*box, cells[n].score, static_cast<std::uint32_t>(cells[n].channel % classes_)});
  }
}

}  // namespace tomoserve::compute
