#include "compute/order_statistics.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

constexpr std::size_t kCounts = std::size_t{1} << 16;
constexpr std::size_t kChunk = std::size_t{1} << 18;
constexpr std::uint32_t kSign = 0x80000000;

// Numbers that are ordered as the floats that they stand for.
std::uint32_t OrderOf(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

float FloatOf(std::uint32_t order) {
  return std::bit_cast<float>((order & kSign) != 0 ? order ^ kSign : ~order);
}

// Where the values of rank `rank` are counted; `rank` becomes the one among them.
std::uint32_t Find(std::span<const std::uint64_t> counts, std::uint64_t& rank) {
  std::uint32_t at = 0;
  while (rank >= counts[at]) rank -= counts[at++];
  return at;
}

}  // namespace

absl::StatusOr<OrderStatistics> OrderStatistics::Of(std::span<const float> values, const Parallel& parallel) {
  OrderStatistics statistics(values);
  TS_ASSIGN_OR_RETURN(statistics.uppers_, statistics.Count(std::nullopt, parallel));
  return statistics;
}

absl::StatusOr<float> OrderStatistics::At(std::uint64_t rank, const Parallel& parallel) {
  const std::uint32_t upper = Find(uppers_, rank);
  if (counted_ != upper) {
    TS_ASSIGN_OR_RETURN(lowers_, Count(upper, parallel));
    counted_ = upper;
  }
  return FloatOf(upper << 16 | Find(lowers_, rank));
}

absl::StatusOr<OrderStatistics::Counts> OrderStatistics::Count(std::optional<std::uint32_t> upper,
                                                               const Parallel& parallel) const {
  std::vector<Counts> of_workers(static_cast<std::size_t>(std::max(parallel.threads, 1)), Counts(kCounts));
  const auto chunks = static_cast<std::int64_t>((values_.size() + kChunk - 1) / kChunk);
  TS_RETURN_IF_ERROR(ParallelFor(parallel, chunks, [&](std::int64_t chunk, int worker) {
    Counts& counts = of_workers[static_cast<std::size_t>(worker)];
    const std::size_t begin = static_cast<std::size_t>(chunk) * kChunk;
    for (const float value : values_.subspan(begin, std::min(kChunk, values_.size() - begin))) {
      const std::uint32_t order = OrderOf(value);
      if (!upper) {
        ++counts[order >> 16];
      } else if (order >> 16 == *upper) {
        ++counts[order & 0xffff];
      }
    }
  }));
  Counts sum = std::move(of_workers[0]);
  for (std::size_t worker = 1; worker < of_workers.size(); ++worker) {
    for (std::size_t n = 0; n < kCounts; ++n) sum[n] += of_workers[worker][n];
  }
  return sum;
}

}  // namespace tomoserve::compute
