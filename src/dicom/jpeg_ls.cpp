#include "dicom/jpeg_ls.h"

#include <cstdint>

#include "dicom/errors.h"
#include "dicom/tokenizer.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint32_t kStartOfScan = 0xFFDA;
constexpr std::uint32_t kParameters = 0xFFF8;
// Identification, MAXVAL, T1, T2, T3, RESET.
constexpr std::size_t kPresetBytes = 2 + 1 + 5 * 2;
constexpr std::byte kPresetId{1};
// CharLS's sum of errors of a context, which is halved every RESET samples.
constexpr std::uint64_t kMaxErrorSum = std::uint64_t{65536} * 256;
// 0: the default.
constexpr std::uint32_t kDefaultReset = 64;
constexpr std::uint32_t kDefaultMaxval = 65535;

absl::Status Broken(std::uint64_t value) {
  return Refuse("CODESTREAM_BROKEN", value,
                "the parameters of a JPEG-LS codestream are none that it can have");
}

}  // namespace

absl::Status CheckJpegLsParameters(std::span<const std::byte> stream) {
  std::size_t at = 2;
  while (at + 4 <= stream.size()) {
    const std::uint32_t marker = Load16(stream.data() + at, true);
    if (marker == kStartOfScan) return absl::OkStatus();
    if (marker == 0xFFFF) {  // fill byte
      ++at;
      continue;
    }
    const std::size_t length = Load16(stream.data() + at + 2, true);
    if (marker < 0xFF00 || length < 2 || length > stream.size() - at - 2) break;
    const std::byte* const segment = stream.data() + at + 2;
    if (marker == kParameters && length >= 3 && segment[2] == kPresetId) {
      if (length != kPresetBytes) return Broken(length);
      const auto number = [&](std::size_t index) {
        return std::uint32_t{Load16(segment + 3 + 2 * index, true)};
      };
      const std::uint32_t maxval = number(0) == 0 ? kDefaultMaxval : number(0);
      const std::uint32_t reset = number(4) == 0 ? kDefaultReset : number(4);
      const std::uint32_t t1 = number(1), t2 = number(2), t3 = number(3);
      const bool ordered = t1 == 0 || t2 == 0 || t3 == 0 || (t1 <= t2 && t2 <= t3 && t3 <= maxval);
      if (!ordered || reset < 3 || std::uint64_t{reset} * (std::uint64_t{maxval} + 1) > kMaxErrorSum)
        return Broken(reset);
    }
    at += 2 + length;
  }
  return Broken(at);
}

}  // namespace tomoserve::dicom
