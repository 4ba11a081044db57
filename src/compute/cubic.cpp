#include "compute/cubic.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

// Lines that are filtered side by side.
constexpr std::int64_t kLanes = 32;
// Coefficients beyond each end that outputs read.
constexpr std::int64_t kMargin = 2;

// An array seen from one of its axes.
struct Lines {
  std::int64_t outer = 1;
  std::int64_t size = 1;
  std::int64_t inner = 1;
};

Lines LinesOf(const at::Tensor& array, std::size_t axis) {
  Lines lines;
  for (std::size_t d = 0; d < 3; ++d) {
    const std::int64_t size = array.size(static_cast<std::int64_t>(d));
    (d < axis ? lines.outer : d == axis ? lines.size : lines.inner) *= size;
  }
  return lines;
}

// From values to spline coefficients, in place, [size][kLanes]; constant beyond both ends.
void Prefilter(std::span<double> lanes) {
  constexpr double kZ = kSplinePole;
  constexpr double kGain = (1 - kZ) * (1 - 1 / kZ);
  constexpr auto kRow = static_cast<std::size_t>(kLanes);
  double last_steady[kRow];
  for (double& value : lanes) value *= kGain;
  for (std::size_t l = 0; l < kRow; ++l) {
    last_steady[l] = lanes[lanes.size() - kRow + l] / (1 - kZ);
    lanes[l] /= 1 - kZ;
  }
  for (std::size_t at = kRow; at < lanes.size(); at += kRow) {
    for (std::size_t l = 0; l < kRow; ++l) lanes[at + l] += kZ * lanes[at - kRow + l];
  }
  double* const last = lanes.data() + lanes.size() - kRow;
  for (std::size_t l = 0; l < kRow; ++l) {
    last[l] = -kZ * (last_steady[l] / (1 - kZ) + (last[l] - last_steady[l]) / (1 - kZ * kZ));
  }
  for (std::size_t at = lanes.size() - kRow; at > 0; at -= kRow) {
    double* const here = lanes.data() + at - kRow;
    for (std::size_t l = 0; l < kRow; ++l) here[l] = kZ * (here[kRow + l] - here[l]);
  }
}

// Values in (filled up to kLanes lanes), interpolated values out.
class LineKernel {
 public:
  explicit LineKernel(const AxisTable& table) : in_size_(table.in_size) {
    taps_.reserve(table.place.size());
    for (const double place : table.place) taps_.push_back(TapsAt(place));
  }

  // `lanes` lines; values of a line lie `step` apart, lines `lane_step`.
  void Apply(const float* in, std::int64_t in_step, std::int64_t in_lane_step, float* out,
             std::int64_t out_step, std::int64_t out_lane_step, std::int64_t lanes,
             std::vector<double>& scratch) const {
    scratch.assign(static_cast<std::size_t>((in_size_ + 2 * kMargin) * kLanes), 0.0);
    for (std::int64_t p = -kMargin; p < in_size_ + kMargin; ++p) {
      const float* const from = in + std::clamp<std::int64_t>(p, 0, in_size_ - 1) * in_step;
      double* const to = scratch.data() + (p + kMargin) * kLanes;
      for (std::int64_t l = 0; l < lanes; ++l) to[l] = static_cast<double>(from[l * in_lane_step]);
    }
    Prefilter(scratch);
    for (std::size_t o = 0; o < taps_.size(); ++o, out += out_step) {
      const auto& [w0, w1, w2, w3] = taps_[o].weights;
      const double* const c = scratch.data() + (taps_[o].first + kMargin) * kLanes;
      double sums[kLanes];
      for (std::int64_t l = 0; l < kLanes; ++l) {
        sums[l] = w0 * c[l] + w1 * c[kLanes + l] + w2 * c[2 * kLanes + l] + w3 * c[3 * kLanes + l];
      }
      for (std::int64_t l = 0; l < lanes; ++l) out[l * out_lane_step] = static_cast<float>(sums[l]);
    }
  }

 private:
  std::int64_t in_size_;
  std::vector<SplineTaps> taps_;
};

at::Tensor EmptyLike(const at::Tensor& array, std::size_t axis, std::int64_t size) {
  std::vector<std::int64_t> sizes = array.sizes().vec();
  sizes[axis] = size;
  return at::empty(sizes, at::kFloat);
}

absl::StatusOr<at::Tensor> Spline(const at::Tensor& source, std::size_t axis, const AxisTable& table,
                                  const Parallel& parallel) {
  at::Tensor result = EmptyLike(source, axis, table.out_size());
  const Lines lines = LinesOf(source, axis);
  const LineKernel kernel(table);
  const float* const in = source.const_data_ptr<float>();
  float* const out = result.mutable_data_ptr<float>();
  std::vector<std::vector<double>> scratch(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  const auto blocks_of = [](std::int64_t lanes) { return (lanes + kLanes - 1) / kLanes; };
  if (lines.inner == 1) {  // lines follow each other
    TS_RETURN_IF_ERROR(ParallelFor(parallel, blocks_of(lines.outer), [&](std::int64_t block, int worker) {
      const std::int64_t line = block * kLanes;
      kernel.Apply(in + line * lines.size, 1, lines.size, out + line * table.out_size(), 1, table.out_size(),
                   std::min(kLanes, lines.outer - line), scratch[static_cast<std::size_t>(worker)]);
    }));
    return result;
  }
  const std::int64_t blocks = blocks_of(lines.inner);
  TS_RETURN_IF_ERROR(ParallelFor(parallel, lines.outer * blocks, [&](std::int64_t task, int worker) {
    const std::int64_t outer = task / blocks;
    const std::int64_t lane = task % blocks * kLanes;
    kernel.Apply(in + outer * lines.size * lines.inner + lane, lines.inner, 1,
                 out + outer * table.out_size() * lines.inner + lane, lines.inner, 1,
                 std::min(kLanes, lines.inner - lane), scratch[static_cast<std::size_t>(worker)]);
  }));
  return result;
}

absl::StatusOr<at::Tensor> Pick(const at::Tensor& source, std::size_t axis, const AxisTable& table,
                                const Parallel& parallel) {
  at::Tensor result = EmptyLike(source, axis, table.out_size());
  const Lines lines = LinesOf(source, axis);
  const float* const in = source.const_data_ptr<float>();
  float* const out = result.mutable_data_ptr<float>();
  TS_RETURN_IF_ERROR(ParallelFor(parallel, lines.outer, [&](std::int64_t outer, int) {
    for (std::int64_t o = 0; o < table.out_size(); ++o) {
      std::copy_n(in + (outer * lines.size + table.nearest[static_cast<std::size_t>(o)]) * lines.inner,
                  lines.inner, out + (outer * table.out_size() + o) * lines.inner);
    }
  }));
  return result;
}

struct Range {
  float low = std::numeric_limits<float>::infinity();
  float high = -std::numeric_limits<float>::infinity();
};

// Ranges of the planes across `axis`, or one of the whole where it is -1.
absl::StatusOr<std::vector<Range>> RangesOf(const at::Tensor& array, int axis, const Parallel& parallel) {
  const float* const values = array.const_data_ptr<float>();
  // Without planes: of pieces that any thread may look at, put together below.
  const Lines lines = axis < 0 ? Lines{1, array.size(0), array.size(1) * array.size(2)}
                               : LinesOf(array, static_cast<std::size_t>(axis));
  std::vector<Range> ranges(static_cast<std::size_t>(lines.size));
  TS_RETURN_IF_ERROR(ParallelFor(parallel, lines.size, [&](std::int64_t plane, int) {
    Range range;
    for (std::int64_t outer = 0; outer < lines.outer; ++outer) {
      const float* const row = values + (outer * lines.size + plane) * lines.inner;
      for (std::int64_t v = 0; v < lines.inner; ++v) {
        range.low = row[v] < range.low ? row[v] : range.low;
        range.high = row[v] > range.high ? row[v] : range.high;
      }
    }
    ranges[static_cast<std::size_t>(plane)] = range;
  }));
  if (axis >= 0) return ranges;
  Range whole;
  for (const Range& range : ranges) {
    whole = {std::min(whole.low, range.low), std::max(whole.high, range.high)};
  }
  return std::vector<Range>{whole};
}

absl::Status Clip(const std::vector<Range>& ranges, int axis, at::Tensor& array, const Parallel& parallel) {
  float* const values = array.mutable_data_ptr<float>();
  const Lines lines = axis < 0 ? Lines{array.size(0), 1, array.size(1) * array.size(2)}
                               : LinesOf(array, static_cast<std::size_t>(axis));
  return ParallelFor(parallel, lines.outer, [&](std::int64_t outer, int) {
    for (std::int64_t plane = 0; plane < lines.size; ++plane) {
      const Range range = ranges[static_cast<std::size_t>(plane)];
      float* const row = values + (outer * lines.size + plane) * lines.inner;
      for (std::int64_t v = 0; v < lines.inner; ++v) {
        const float raised = row[v] < range.low ? range.low : row[v];
        row[v] = raised > range.high ? range.high : raised;
      }
    }
  });
}

bool Picks(const AxisTable& table) { return table.by_nearest || table.exact; }

double Growth(const AxisTable& table) {
  return static_cast<double>(table.out_size()) / static_cast<double>(table.in_size);
}

}  // namespace

SplineTaps TapsAt(double place) {
  const double low = std::floor(place);
  const double t = place - low;
  const double u = 1 - t;
  return {static_cast<std::int64_t>(low) - 1,
          {u * u * u / 6, (t * t * (t - 2) * 3 + 4) / 6, (u * u * (u - 2) * 3 + 4) / 6, t * t * t / 6}};
}

std::vector<CubicPass> CubicPasses(const GridMap& map) {
  std::vector<CubicPass> planes, before, splines, after;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (map[axis].identity) continue;
    if (!Picks(map[axis])) {
      splines.push_back({CubicPass::Kind::kSpline, axis});
    } else if (Growth(map[axis]) >= 1) {
      after.push_back({CubicPass::Kind::kPick, axis});
    } else {
      (map[axis].by_nearest ? planes : before).push_back({CubicPass::Kind::kPick, axis});
    }
  }
  std::stable_sort(splines.begin(), splines.end(), [&](const CubicPass& a, const CubicPass& b) {
    return Growth(map[a.axis]) < Growth(map[b.axis]);
  });
  if (!splines.empty()) {
    planes.push_back({CubicPass::Kind::kRange});
    splines.push_back({CubicPass::Kind::kClip});
  }
  for (const auto* const passes : {&before, &splines, &after}) {
    planes.insert(planes.end(), passes->begin(), passes->end());
  }
  return planes;
}

int PlaneAxis(const GridMap& map) {
  for (int axis = 0; axis < 3; ++axis) {
    if (map[static_cast<std::size_t>(axis)].by_nearest) return axis;
  }
  return -1;
}

absl::StatusOr<at::Tensor> ResampleCubic(at::Tensor source, const GridMap& map, const Parallel& parallel) {
  at::Tensor array = std::move(source);
  std::vector<Range> ranges;
  for (const CubicPass& pass : CubicPasses(map)) {
    switch (pass.kind) {
      case CubicPass::Kind::kPick: {
        TS_ASSIGN_OR_RETURN(array, Pick(array, pass.axis, map[pass.axis], parallel));
        break;
      }
      case CubicPass::Kind::kSpline: {
        TS_ASSIGN_OR_RETURN(array, Spline(array, pass.axis, map[pass.axis], parallel));
        break;
      }
      case CubicPass::Kind::kRange: {
        TS_ASSIGN_OR_RETURN(ranges, RangesOf(array, PlaneAxis(map), parallel));
        break;
      }
      case CubicPass::Kind::kClip:
        TS_RETURN_IF_ERROR(Clip(ranges, PlaneAxis(map), array, parallel));
        break;
    }
  }
  return array;
}

}  // namespace tomoserve::compute
