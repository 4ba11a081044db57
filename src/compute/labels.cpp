#include "tomoserve/compute/labels.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace tomoserve::compute {
namespace {

constexpr std::size_t kBlock = 1024;  // voxels whose best channel so far stays in the first-level cache

}  // namespace

template <typename Label>
void ArgMaxLabels(std::span<const float> scores, std::int64_t channels, std::int64_t channel_stride,
                  std::span<Label> labels) {
  std::array<float, kBlock> best;
  std::array<std::int32_t, kBlock> channel_of;
  for (std::size_t begin = 0; begin < labels.size(); begin += kBlock) {
    const std::size_t n = std::min(kBlock, labels.size() - begin);
    std::copy_n(scores.data() + begin, n, best.data());
    std::fill_n(channel_of.data(), n, 0);
    for (std::int64_t channel = 1; channel < channels; ++channel) {
      const float* const row = scores.data() + static_cast<std::size_t>(channel * channel_stride) + begin;
      const auto number = static_cast<std::int32_t>(channel);
      for (std::size_t v = 0; v < n; ++v) {
        const bool higher = row[v] > best[v];
        channel_of[v] = higher ? number : channel_of[v];
        best[v] = higher ? row[v] : best[v];
      }
    }
    for (std::size_t v = 0; v < n; ++v) labels[begin + v] = static_cast<Label>(channel_of[v]);
  }
}

template <typename Label>
void ThresholdLabels(std::span<const float> scores, std::int64_t channel_stride, float above,
                     std::span<const Paint<Label>> paints, std::span<Label> labels) {
  std::fill(labels.begin(), labels.end(), Label{0});
  for (const Paint<Label>& paint : paints) {
    const float* const row = scores.data() + static_cast<std::size_t>(paint.channel * channel_stride);
    for (std::size_t v = 0; v < labels.size(); ++v) {
      labels[v] = row[v] > above ? paint.value : labels[v];
    }
  }
}

template <typename Label>
absl::Status MergeLabels(std::span<Label> labels, std::span<const std::uint32_t> from, std::uint32_t into,
                         const Parallel& parallel) {
  std::vector<Label> values(std::size_t{std::numeric_limits<Label>::max()} + 1);
  std::iota(values.begin(), values.end(), Label{0});
  for (const std::uint32_t value : from) {
    if (value < values.size()) values[value] = static_cast<Label>(into);
  }
  constexpr std::size_t kPart = std::size_t{1} << 20;
  const auto parts = static_cast<std::int64_t>((labels.size() + kPart - 1) / kPart);
  return ParallelFor(parallel, parts, [&](std::int64_t part, int) {
    const std::size_t begin = static_cast<std::size_t>(part) * kPart;
    for (Label& label : labels.subspan(begin, std::min(kPart, labels.size() - begin))) label = values[label];
  });
}

template void ArgMaxLabels<std::uint8_t>(std::span<const float>, std::int64_t, std::int64_t,
                                         std::span<std::uint8_t>);
template void ArgMaxLabels<std::uint16_t>(std::span<const float>, std::int64_t, std::int64_t,
                                          std::span<std::uint16_t>);
template void ThresholdLabels<std::uint8_t>(std::span<const float>, std::int64_t, float,
                                            std::span<const Paint<std::uint8_t>>, std::span<std::uint8_t>);
template void ThresholdLabels<std::uint16_t>(std::span<const float>, std::int64_t, float,
                                             std::span<const Paint<std::uint16_t>>, std::span<std::uint16_t>);

template absl::Status MergeLabels<std::uint8_t>(std::span<std::uint8_t>, std::span<const std::uint32_t>,
                                                std::uint32_t, const Parallel&);
template absl::Status MergeLabels<std::uint16_t>(std::span<std::uint16_t>, std::span<const std::uint32_t>,
                                                 std::uint32_t, const Parallel&);

}  // namespace tomoserve::compute
