#include "tomoserve/compute/on_device/labels.h"

#include <type_traits>

namespace tomoserve::compute::on_device {

void ArgMaxLabels(const at::Tensor& scores, const at::Tensor& labels) {
  labels.copy_(scores.argmax(0));  // ATen too takes the first of equals
}

template <typename Label>
void ThresholdLabels(const at::Tensor& scores, float above, std::span<const Paint<Label>> paints,
                     const at::Tensor& labels) {
  using Stored = std::conditional_t<sizeof(Label) == 1, std::uint8_t, std::int16_t>;
  labels.zero_();
  for (const Paint<Label>& paint : paints) {
    labels.masked_fill_(scores.select(0, paint.channel).gt(above),
                        std::int64_t{static_cast<Stored>(paint.value)});
  }
}

template void ThresholdLabels<std::uint8_t>(const at::Tensor&, float, std::span<const Paint<std::uint8_t>>,
                                            const at::Tensor&);
template void ThresholdLabels<std::uint16_t>(const at::Tensor&, float, std::span<const Paint<std::uint16_t>>,
                                             const at::Tensor&);

}  // namespace tomoserve::compute::on_device
