#include "dicom/htj2k_markers.h"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "dicom/errors.h"
#include "dicom/tokenizer.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint32_t kSiz = 0xFF51, kCap = 0xFF50, kCod = 0xFF52, kQcd = 0xFF5C, kCom = 0xFF64,
                        kTlm = 0xFF55, kPlt = 0xFF58, kSot = 0xFF90, kSod = 0xFF93, kEoc = 0xFFD9;
// Rsiz: capabilities are declared; Pcap: those of part 15 and no other; Ccap: HT code blocks only, no region
// of interest, homogeneous, bounded by B.
constexpr std::uint32_t kRsizCapabilities = 0x4000;
constexpr std::uint32_t kPcapHt = 0x00020000;
constexpr std::uint32_t kCcapOther = 0xD000;
// Code block style: HT, and vertically causal context.
constexpr std::uint32_t kStyleHt = 0x40;
constexpr std::uint32_t kStyleKnown = 0x48;
constexpr std::uint32_t kMaxLevels = 32;
// Magnitude bit planes that 32 bit arithmetic holds.
constexpr std::uint32_t kMaxBitPlanes = 31;

absl::Status Broken(std::size_t at) {
  return Refuse("CODESTREAM_BROKEN", at, "the HTJ2K codestream is broken or cut off");
}

// A marker segment; `body` is what follows its length.
struct Segment {
  std::uint32_t marker = 0;
  std::span<const std::byte> body;
};

class Markers {
 public:
  explicit Markers(std::span<const std::byte> bytes, std::size_t at) : bytes_(bytes), at_(at) {}

  // The next segment, unless it is SOT, SOD or EOC, or none.
  std::optional<Segment> Next() {
    if (bytes_.size() - at_ < 4) return std::nullopt;
    const std::uint32_t marker = Load16(bytes_.data() + at_, true);
    const std::size_t length = Load16(bytes_.data() + at_ + 2, true);
    if (marker == kSot || marker == kSod || marker == kEoc || marker < 0xFF00) return std::nullopt;
    if (length < 2 || length > bytes_.size() - at_ - 2) return std::nullopt;
    const Segment segment{marker, bytes_.subspan(at_ + 4, length - 2)};
    at_ += 2 + length;
    return segment;
  }
  std::size_t at() const { return at_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0;
};

std::uint32_t Byte(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at]);
}

// What COD says that QCD must agree with.
struct Style {
  std::uint32_t levels = 0;
  bool reversible = false;
};

std::optional<Style> ReadCod(std::span<const std::byte> body) {
  if (body.size() < 10) return std::nullopt;
  Style style;
  const bool precincts = (Byte(body, 0) & 1) != 0;
  style.levels = Byte(body, 5);
  style.reversible = Byte(body, 9) == 1;
  const std::uint32_t width = Byte(body, 6), height = Byte(body, 7), blocks = Byte(body, 8);
  const bool valid = Byte(body, 0) <= 7 && Byte(body, 1) <= 4 && Load16(body.data() + 2, true) == 1 &&
                     Byte(body, 4) == 0 && style.levels <= kMaxLevels && width <= 8 && height <= 8 &&
                     width + height <= 8 && (blocks & kStyleHt) != 0 && (blocks & ~kStyleKnown) == 0 &&
                     Byte(body, 9) <= 1 && body.size() == 10 + (precincts ? style.levels + 1 : 0);
  if (!valid) return std::nullopt;
  // A precinct of a higher resolution is never one pixel wide or high.
  for (std::size_t level = 1; precincts && level <= style.levels; ++level) {
    const std::uint32_t size = Byte(body, 10 + level);
    if ((size & 0xF) == 0 || size >> 4 == 0) return std::nullopt;
  }
  return style;
}

bool Agrees(std::span<const std::byte> qcd, const Style& style) {
  const std::size_t bands = std::size_t{3} * style.levels + 1;
  const std::size_t entry = style.reversible ? 1 : 2;
  if (qcd.size() != 1 + bands * entry) return false;
  const std::uint32_t guard_bits = Byte(qcd, 0) >> 5;
  if ((Byte(qcd, 0) & 0x1F) != (style.reversible ? 0u : 2u)) return false;
  for (std::size_t band = 0; band < bands; ++band) {
    const std::uint32_t exponent = Byte(qcd, 1 + band * entry) >> 3;
    const std::uint32_t planes = guard_bits + exponent;
    if (planes < 2 || planes - 1 > kMaxBitPlanes) return false;
  }
  return true;
}

// Walks the tile-parts; false where one has parameters of its own.
absl::StatusOr<bool> TilePartsArePlain(std::span<const std::byte> stream, std::size_t at) {
  constexpr std::size_t kSotBytes = 12;
  bool plain = true;
  bool any = false;
  while (stream.size() - at >= 2 && Load16(stream.data() + at, true) == kSot) {
    if (stream.size() - at < kSotBytes) return Broken(at);
    std::size_t length = Load32(stream.data() + at + 6, true);
    // 0: to the end of the codestream.
    if (length == 0) {
      std::size_t end = stream.size();
      while (end > at && stream[end - 1] == std::byte{0}) --end;
      if (end - at < kSotBytes + 2 || Load16(stream.data() + end - 2, true) != kEoc) return Broken(at);
      length = end - 2 - at;
    }
    if (length < kSotBytes + 2 || length > stream.size() - at) return Broken(at);
    const std::span<const std::byte> part = stream.subspan(at, length);
    Markers markers(part, kSotBytes);
    while (const auto segment = markers.Next())
      plain = plain && (segment->marker == kPlt || segment->marker == kCom);
    if (part.size() - markers.at() < 2 || Load16(part.data() + markers.at(), true) != kSod) return Broken(at);
    any = true;
    at += length;
  }
  // What remains is the end's marker and padding.
  const auto rest = stream.subspan(at);
  const bool ended = rest.size() >= 2 && Load16(rest.data(), true) == kEoc;
  const bool padding = std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; });
  if (!any || (!ended && !padding)) return Broken(at);
  return plain;
}

}  // namespace

absl::StatusOr<bool> IsPlainHtj2k(std::span<const std::byte> codestream) {
  Markers markers(codestream, 2);
  std::optional<std::span<const std::byte>> siz, cap, cod, qcd;
  bool plain = true;
  while (const auto segment = markers.Next()) {
    auto* const place = segment->marker == kSiz   ? &siz
                        : segment->marker == kCap ? &cap
                        : segment->marker == kCod ? &cod
                        : segment->marker == kQcd ? &qcd
                                                  : nullptr;
    if (place == nullptr) {
      plain = plain && (segment->marker == kCom || segment->marker == kTlm);
    } else {
      plain = plain && !place->has_value();
      *place = segment->body;
    }
  }
  TS_ASSIGN_OR_RETURN(const bool parts_plain, TilePartsArePlain(codestream, markers.at()));
  if (!plain || !parts_plain || !siz || !cap || !cod || !qcd || siz->size() < 36 || cap->size() != 6)
    return false;
  if ((Load16(siz->data(), true) & kRsizCapabilities) == 0 || Load32(cap->data(), true) != kPcapHt ||
      (Load16(cap->data() + 4, true) & kCcapOther) != 0) {
    return false;
  }
  const auto style = ReadCod(*cod);
  return style && Agrees(*qcd, *style);
}

}  // namespace tomoserve::dicom
