// Values of a header by tag. Numbers are parsed strictly (PS3.5 6.2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom {

// Whether the header pass reads this element; `sequence` is 0 at the top level.
bool IsHeaderElement(std::uint32_t sequence, std::uint32_t tag);

// Whether a top-level element is one of those of vendors that the header pass reads, or names a private block
// that may hold them (PS3.5 7.8.1).
bool IsPrivateHeaderElement(std::uint32_t tag);

// DS: a finite decimal number, spaces around it allowed.
std::optional<double> ParseDecimal(std::string_view text);
// IS: a 32 bit integer, spaces around it allowed.
std::optional<std::int32_t> ParseInteger(std::string_view text);
// Without spaces and NULs at both ends.
std::string_view Trim(std::string_view text);
std::vector<std::string_view> SplitValues(std::string_view text);

// Views of the file; lives no longer than it and the layout.
class HeaderValues {
 public:
  HeaderValues(std::span<const std::byte> file, const FileLayout& layout) : file_(file), layout_(layout) {}

  // Raw bytes of an element, if it is there.
  std::optional<std::string_view> Raw(std::uint32_t tag, std::uint32_t sequence = 0,
                                      std::uint32_t item = 0) const;
  // First value of VR US or SS; none where absent or too short.
  std::optional<std::uint16_t> Unsigned16(std::uint32_t tag) const;
  // First value of VR FD; none where absent or too short.
  std::optional<double> Double(std::uint32_t tag) const;

  // Value of a private element (PS3.5 7.8.1): `number` is the low byte of its element number in the block of
  // `group` that `creator` has reserved.
  std::optional<std::string_view> Private(std::uint16_t group, std::string_view creator,
                                          std::uint8_t number) const;

  // First value of an element's bytes as VR US, UL, FL or FD, in the file's byte order; none where they are
  // too few, or the number is not finite.
  std::optional<std::uint16_t> Unsigned16Of(std::string_view raw) const;
  std::optional<std::uint32_t> Unsigned32Of(std::string_view raw) const;
  std::optional<float> FloatOf(std::string_view raw) const;
  std::optional<double> DoubleOf(std::string_view raw) const;

 private:
  std::span<const std::byte> file_;
  const FileLayout& layout_;
};

}  // namespace tomoserve::dicom
