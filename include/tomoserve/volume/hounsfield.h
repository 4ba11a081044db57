// Whether the values of a CT can be Hounsfield units.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tomoserve::volume {

// Values of a CT volume (or an even sample of them), counted by what they would be in Hounsfield units.
struct HounsfieldCounts {
  std::uint64_t all = 0;     // -1100 or more: less is padding
  std::uint64_t body = 0;    // more than -500
  std::uint64_t tissue = 0;  // -200 to 200: fat, water, soft tissue, blood
  std::uint64_t dense = 0;   // more than 700: compact bone, metal

  void Add(double hu) {
    if (!(hu >= -1100)) return;
    ++all;
    if (hu > -500) ++body;
    if (hu >= -200 && hu <= 200) ++tissue;
    if (hu > 700) ++dense;
  }
  HounsfieldCounts& operator+=(const HounsfieldCounts& other);
};

// Nothing where a patient may look like this. Else what does not fit, with its share: less than 15 % of the
// body is tissue ("tissue 0.02"; "tissue 0" where there is no body), or more than 25 % of the volume is dense
// ("dense 0.57"), as in a CT whose stored values, 1024 above Hounsfield units, were taken as they are. Of
// five real CTs (chest, abdomen, heads) the shares are 71 % or more, and 4.5 % or less; raised by 1024 all of
// them exceed the second: 27 % or more.
std::optional<std::string> WhyNotHounsfield(const HounsfieldCounts& counts);

}  // namespace tomoserve::volume
