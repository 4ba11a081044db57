#include "tomoserve/compute/on_device/labels.h"

#include <ATen/ops/zeros.h>

#include <limits>
#include <type_traits>

#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {
namespace {

// A label as its tensor stores it.
template <typename Label>
std::int64_t Stored(std::uint32_t value) {
  using Type = std::conditional_t<sizeof(Label) == 1, std::uint8_t, std::int16_t>;
  return static_cast<Type>(value);
}

}  // namespace

void ArgMaxLabels(const at::Tensor& scores, const at::Tensor& labels) {
  labels.copy_(scores.argmax(0));  // ATen too takes the first of equals
}

template <typename Label>
void ThresholdLabels(const at::Tensor& scores, float above, std::span<const Paint<Label>> paints,
                     const at::Tensor& labels) {
  labels.zero_();
  for (const Paint<Label>& paint : paints) {
    labels.masked_fill_(scores.select(0, paint.channel).gt(above), Stored<Label>(paint.value));
  }
}

template <typename Label>
void MergeLabels(const at::Tensor& labels, std::span<const std::uint32_t> from, std::uint32_t into) {
  ForChunks(labels.view({-1}), [&](const at::Tensor& part) {
    at::Tensor merged = at::zeros(part.sizes(), part.options().dtype(at::kBool));
    for (const std::uint32_t value : from) {
      if (value <= std::numeric_limits<Label>::max()) merged.logical_or_(part.eq(Stored<Label>(value)));
    }
    part.masked_fill_(merged, Stored<Label>(into));
  });
}

template void ThresholdLabels<std::uint8_t>(const at::Tensor&, float, std::span<const Paint<std::uint8_t>>,
                                            const at::Tensor&);
template void ThresholdLabels<std::uint16_t>(const at::Tensor&, float, std::span<const Paint<std::uint16_t>>,
                                             const at::Tensor&);

template void MergeLabels<std::uint8_t>(const at::Tensor&, std::span<const std::uint32_t>, std::uint32_t);
template void MergeLabels<std::uint16_t>(const at::Tensor&, std::span<const std::uint32_t>, std::uint32_t);

}  // namespace tomoserve::compute::on_device
