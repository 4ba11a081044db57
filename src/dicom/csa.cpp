#include "dicom/csa.h"

#include <cstdint>

#include "dicom/errors.h"
#include "dicom/tokenizer.h"
#include "dicom/values.h"

namespace tomoserve::dicom {
namespace {

constexpr std::string_view kMagic = "SV10";
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kNameBytes = 64;
constexpr std::size_t kEntryBytes = kNameBytes + 20;
constexpr std::size_t kItemBytes = 16;
// Real headers have about a hundred entries.
constexpr std::uint32_t kMaxEntries = 1000;
constexpr std::uint32_t kMaxItems = 1000;

absl::Status Broken(std::size_t at) { return Refuse("CSA_BROKEN", at, "the CSA header is broken"); }

std::string_view Chars(std::span<const std::byte> bytes, std::size_t at, std::size_t count) {
  const auto part = bytes.subspan(at, count);
  const std::string_view text(reinterpret_cast<const char*>(part.data()), part.size());
  return text.substr(0, text.find('\0'));
}

}  // namespace

absl::StatusOr<std::vector<std::string_view>> CsaValues(std::span<const std::byte> bytes,
                                                        std::string_view name) {
  std::vector<std::string_view> values;
  if (bytes.size() < kHeaderBytes || Chars(bytes, 0, kMagic.size()) != kMagic) return Broken(0);
  const std::uint32_t entries = Load32(bytes.data() + 8, false);
  if (entries == 0 || entries > kMaxEntries) return Broken(8);
  std::size_t at = kHeaderBytes;
  for (std::uint32_t entry = 0; entry < entries; ++entry) {
    if (bytes.size() - at < kEntryBytes) return Broken(at);
    const bool wanted = Chars(bytes, at, kNameBytes) == name;
    const std::uint32_t items = Load32(bytes.data() + at + kNameBytes + 12, false);
    if (items > kMaxItems) return Broken(at);
    at += kEntryBytes;
    for (std::uint32_t item = 0; item < items; ++item) {
      if (bytes.size() - at < kItemBytes) return Broken(at);
      const std::uint32_t length = Load32(bytes.data() + at + 4, false);
      at += kItemBytes;
      if (length > bytes.size() - at) return Broken(at);
      if (wanted) {
        const std::string_view value = Trim(Chars(bytes, at, length));
        if (!value.empty()) values.push_back(value);
      }
      // The padding behind the last one may be missing.
      const std::size_t padded = (std::size_t{length} + 3) / 4 * 4;
      at += padded < bytes.size() - at ? padded : bytes.size() - at;
    }
    if (wanted) return values;
  }
  return values;
}

}  // namespace tomoserve::dicom
