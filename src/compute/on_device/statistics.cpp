#include "compute/on_device/statistics.h"

#include <ATen/ops/aminmax.h>
#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/le.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <vector>

#include "compute/intensity_rules.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

// Values of one number per piece, on the host.
template <typename Value>
std::vector<Value> ToHost(const std::vector<at::Tensor>& numbers) {
  const at::Tensor host = at::stack(numbers).cpu();
  const Value* const data = host.const_data_ptr<Value>();
  return {data, data + host.numel()};
}

// In order.
template <typename Value>
Value SumOnHost(const std::vector<at::Tensor>& numbers) {
  Value sum = 0;
  for (const Value value : ToHost<Value>(numbers)) sum += value;
  return sum;
}

std::int64_t CountUpTo(const at::Tensor& values, float limit) {
  std::vector<at::Tensor> counts;
  ForChunks(values, [&](const at::Tensor& part) { counts.push_back(part.le(limit).sum()); });
  return SumOnHost<std::int64_t>(counts);
}

// Numbers that are ordered as the floats that they stand for: all finite ones and the infinities.
float FloatOf(std::int64_t order) {
  const auto number = static_cast<std::int32_t>(order);
  const auto magnitude = static_cast<std::uint32_t>(number < 0 ? -(number + 1) : number);
  return std::bit_cast<float>(number < 0 ? magnitude | 0x80000000u : magnitude);
}

constexpr std::int64_t kInfinity = 0x7f800000;

// The value of 0-based `rank` in ascending order.
float OrderStatistic(const at::Tensor& values, std::int64_t rank) {
  std::int64_t low = -kInfinity - 1;
  std::int64_t high = kInfinity;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (CountUpTo(values, FloatOf(middle)) > rank) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return FloatOf(low);
}

// The lowest value above `limit`; infinity where there is none.
float LowestAbove(const at::Tensor& values, float limit) {
  std::vector<at::Tensor> lowest;
  ForChunks(values, [&](const at::Tensor& part) {
    lowest.push_back(part.masked_fill(part.le(limit), std::numeric_limits<float>::infinity()).min());
  });
  const std::vector<float> all = ToHost<float>(lowest);
  return *std::min_element(all.begin(), all.end());
}

}  // namespace

CountAndSum CountAndSumOf(const at::Tensor& values) {
  std::vector<at::Tensor> counts, sums;
  ForChunks(values, [&](const at::Tensor& part) {
    counts.push_back(at::count_nonzero(part));
    sums.push_back(at::sum(part, at::kDouble));
  });
  return {SumOnHost<std::int64_t>(counts), SumOnHost<double>(sums)};
}

double SumOfSquares(const at::Tensor& values, double mean, bool nonzero) {
  std::vector<at::Tensor> sums;
  ForChunks(values, [&](const at::Tensor& part) {
    at::Tensor squares = part.to(at::kDouble).sub_(mean);
    squares.mul_(squares);
    if (nonzero) squares.masked_fill_(part.eq(0), 0.0);
    sums.push_back(squares.sum());
  });
  return SumOnHost<double>(sums);
}

std::array<float, 2> ExtremesOf(const at::Tensor& values) {
  std::vector<at::Tensor> extremes;
  ForChunks(values, [&](const at::Tensor& part) {
    const auto [low, high] = at::aminmax(part);
    extremes.push_back(low);
    extremes.push_back(high);
  });
  const std::vector<float> all = ToHost<float>(extremes);
  std::array<float, 2> result{all[0], all[1]};
  for (std::size_t n = 0; n < all.size(); n += 2) {
    result = {std::min(result[0], all[n]), std::max(result[1], all[n + 1])};
  }
  return result;
}

float Percentile(const at::Tensor& values, double q) {
  const PercentileRank rank = RankOf(q, static_cast<std::uint64_t>(values.numel()));
  const auto below = static_cast<std::int64_t>(rank.below);
  const float low = OrderStatistic(values, below);
  if (below + 1 == values.numel() || CountUpTo(values, low) > below + 1) return low;
  return Interpolated(low, LowestAbove(values, low), rank.weight);
}

}  // namespace tomoserve::compute::on_device
