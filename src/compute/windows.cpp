#include "tomoserve/compute/windows.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/min.h>
#include <ATen/ops/mul.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "compute/add_tiles.h"
#include "compute/copy_tiles.h"
#include "tomoserve/base/status.h"
#include "tomoserve/volume/window_cells.h"

namespace tomoserve::compute {
namespace {

absl::Status Invalid(const char* field, const char* text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "WINDOW_INVALID", field, text);
}

absl::Status TooMany(std::int64_t windows) {
  return base::Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_WINDOWS", std::to_string(windows),
                     "the volume would be cut into too many windows");
}

// The part of [start, start + size) that lies in [0, volume): first position and length.
struct Overlap {
  std::int64_t begin = 0;
  std::int64_t length = 0;
};

Overlap OverlapOf(std::int64_t start, std::int64_t size, std::int64_t volume) {
  const std::int64_t begin = std::max<std::int64_t>(start, 0);
  return {begin, std::max<std::int64_t>(std::min(start + size, volume) - begin, 0)};
}

// Dimension of a logical axis in a view whose last three dimensions are x, y, z.
std::int64_t DimensionOf(const at::Tensor& view, std::size_t axis) {
  return view.dim() - 3 + static_cast<std::int64_t>(axis);
}

// Both tensors narrowed to where a window at `start` lies inside the volume.
std::array<at::Tensor, 2> Meet(const at::Tensor& volume, const at::Tensor& window, const Xyz& start) {
  std::array<at::Tensor, 2> parts{volume, window};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t size = window.size(DimensionOf(window, axis));
    const Overlap overlap = OverlapOf(start[axis], size, volume.size(DimensionOf(volume, axis)));
    parts[0] = parts[0].narrow(DimensionOf(volume, axis), overlap.begin, overlap.length);
    parts[1] = parts[1].narrow(DimensionOf(window, axis), overlap.begin - start[axis], overlap.length);
  }
  return parts;
}

}  // namespace

absl::StatusOr<WindowPlan> MonaiWindows(const Xyz& volume_size, const Xyz& window_size, double overlap) {
  if (!(overlap >= 0 && overlap < 1)) return Invalid("overlap", "the overlap is not in [0, 1)");
  std::array<std::vector<std::int64_t>, 3> starts;
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (window_size[axis] < 1 || volume_size[axis] < 1) return Invalid("size", "a size is zero");
    starts[axis] = volume::MonaiStarts(volume_size[axis], window_size[axis], overlap);
    count *= static_cast<std::int64_t>(starts[axis].size());
    if (count > kMaxWindows) return TooMany(count);
  }
  WindowPlan plan{window_size, {}, window_size, {}};
  plan.starts.reserve(static_cast<std::size_t>(count));
  for (const std::int64_t x : starts[0]) {
    for (const std::int64_t y : starts[1]) {
      for (const std::int64_t z : starts[2]) plan.starts.push_back({x, y, z});
    }
  }
  return plan;
}

absl::StatusOr<WindowPlan> SliceWindows(const Xyz& volume_size, std::int64_t before, std::int64_t after,
                                        std::int64_t xy_multiple_of) {
  constexpr std::int64_t kMaxContext = 4096;
  if (before < 0 || after < 0 || before > kMaxContext || after > kMaxContext) {
    return Invalid("context", "the context is too large");
  }
  constexpr std::int64_t kMaxMultiple = 65536;
  if (xy_multiple_of > kMaxMultiple) return Invalid("xy_multiple_of", "the multiple is too large");
  if (volume_size[2] > kMaxWindows) return TooMany(volume_size[2]);
  const std::int64_t multiple = std::max<std::int64_t>(xy_multiple_of, 1);
  const auto padded = [multiple](std::int64_t n) { return (n + multiple - 1) / multiple * multiple; };
  WindowPlan plan;
  plan.size = {padded(volume_size[0]), padded(volume_size[1]), before + 1 + after};
  plan.output_size = {plan.size[0], plan.size[1], 1};
  plan.output_offset = {0, 0, before};
  for (std::int64_t z = 0; z < volume_size[2]; ++z) plan.starts.push_back({0, 0, z - before});
  return plan;
}

at::Tensor GaussianImportance(const Xyz& size, double sigma_scale) {
  constexpr double kFloor = 1e-3;
  at::Tensor map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double sigma = static_cast<double>(size[axis]) * sigma_scale;
    const double first = -static_cast<double>(size[axis] - 1) / 2;
    const at::Tensor x = at::arange(size[axis], at::kFloat).add_(first);
    const at::Tensor profile = x.mul(x).div_(-2 * sigma * sigma).exp_();
    map = map.defined() ? map.unsqueeze(-1).mul(profile) : profile;
  }
  const double floor = std::max(static_cast<double>(map.min().item<float>()), kFloor);
  return map.clamp_(floor);
}

at::Tensor CutWindow(const at::Tensor& volume, const Xyz& start, const Xyz& size, v1::PaddingMode padding,
                     double padding_value) {
  if (padding == v1::PADDING_MODE_REPLICATE) {
    at::Tensor window = volume;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto dimension = static_cast<std::int64_t>(axis);
      const std::int64_t last = volume.size(dimension) - 1;
      if (start[axis] >= 0 && start[axis] + size[axis] <= last + 1) {
        window = window.narrow(dimension, start[axis], size[axis]);
      }
    }
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto dimension = static_cast<std::int64_t>(axis);
      const std::int64_t last = volume.size(dimension) - 1;
      if (start[axis] >= 0 && start[axis] + size[axis] <= last + 1) continue;
      const at::Tensor indices =
          at::arange(size[axis], window.options().dtype(at::kLong)).add_(start[axis]).clamp_(0, last);
      window = window.index_select(dimension, indices);
    }
    // A copy even where the whole volume is the window: the network may write into its input.
    return window.is_contiguous() && window.is_alias_of(volume) ? window.clone() : window.contiguous();
  }
  const double value = padding == v1::PADDING_MODE_CONSTANT ? padding_value : 0;
  const bool inside_only = Covered(volume, start, size).sizes() == at::IntArrayRef(size);
  at::Tensor window = inside_only ? at::empty({size[0], size[1], size[2]}, volume.options())
                                  : at::full({size[0], size[1], size[2]}, value, volume.options());
  const auto [inside, target] = Meet(volume, window, start);
  CopyTiles(inside, target);
  return window;
}

at::Tensor Covered(const at::Tensor& volume, const Xyz& start, const Xyz& size) {
  at::Tensor part = volume;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const std::int64_t dimension = DimensionOf(volume, axis);
    const Overlap overlap = OverlapOf(start[axis], size[axis], volume.size(dimension));
    part = part.narrow(dimension, overlap.begin, overlap.length);
  }
  return part;
}

void AddWindow(const at::Tensor& window, const at::Tensor& importance, const Xyz& start, at::Tensor& sums) {
  const auto [target, inside] = Meet(sums, window, start);
  const at::Tensor weights = importance.defined() ? Meet(sums, importance, start)[1] : importance;
  AddTiles(inside, weights, target);
}

void AddWeights(const WindowPlan& plan, const at::Tensor& importance, at::Tensor& weights) {
  const at::Tensor ones =
      importance.defined()
          ? importance
          : at::full({plan.output_size[0], plan.output_size[1], plan.output_size[2]}, 1, weights.options());
  for (const Xyz& start : plan.starts) {
    Xyz output_start = start;
    for (std::size_t axis = 0; axis < 3; ++axis) output_start[axis] += plan.output_offset[axis];
    const auto [target, inside] = Meet(weights, ones, output_start);
    AddTiles(inside, {}, target);
  }
}

}  // namespace tomoserve::compute
