#include "dicom/codestream.h"

#include "dicom/errors.h"
#include "dicom/tokenizer.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint64_t kMaxTiles = 4096;
constexpr std::uint32_t kJp2Signature = 0x6A502020;   // "jP  "
constexpr std::uint32_t kJp2Codestream = 0x6A703263;  // "jp2c"

absl::Status BrokenStream() { return Refuse("CODESTREAM_BROKEN", "", "a codestream has no valid header"); }

std::uint32_t Byte(std::span<const std::byte> bytes, std::size_t at) {
  return static_cast<std::uint32_t>(bytes[at]);
}

// SOF markers of T.81, without DHT, JPG and DAC, and SOF55 of T.87.
bool IsFrameHeader(std::uint32_t marker) {
  if (marker == 0xF7) return true;
  return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

bool IsLosslessFrame(std::uint32_t marker) {
  return marker == 0xC3 || marker == 0xC7 || marker == 0xCB || marker == 0xCF;
}

}  // namespace

absl::StatusOr<CodestreamInfo> ReadJpegInfo(std::span<const std::byte> stream) {
  if (stream.size() < 4 || Load16(stream.data(), true) != 0xFFD8) return BrokenStream();
  std::size_t at = 2;
  while (at + 4 <= stream.size()) {
    if (Byte(stream, at) != 0xFF) return BrokenStream();
    const std::uint32_t marker = Byte(stream, at + 1);
    if (marker == 0xFF) {  // fill byte
      ++at;
      continue;
    }
    if (marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7)) {  // no parameters
      at += 2;
      continue;
    }
    if (marker == 0xD8 || marker == 0xD9 || marker == 0xDA) return BrokenStream();
    const std::size_t length = Load16(stream.data() + at + 2, true);
    if (length < 2 || length > stream.size() - at - 2) return BrokenStream();
    if (IsFrameHeader(marker)) {
      if (length < 8) return BrokenStream();
      const std::byte* header = stream.data() + at + 4;
      CodestreamInfo info;
      info.precision = static_cast<std::uint32_t>(header[0]);
      info.height = Load16(header + 1, true);
      info.width = Load16(header + 3, true);
      info.components = static_cast<std::uint32_t>(header[5]);
      info.reversible = IsLosslessFrame(marker);
      return info;
    }
    at += 2 + length;
  }
  return BrokenStream();
}

absl::StatusOr<CodestreamInfo> ReadJpeg2000Info(std::span<const std::byte> stream) {
  constexpr std::size_t kSizBytes = 2 + 2 + 38;
  if (stream.size() < kSizBytes || Load32(stream.data(), true) != 0xFF4FFF51) return BrokenStream();
  const std::byte* siz = stream.data() + 4;
  const std::size_t length = Load16(siz, true);
  const auto field = [&](std::size_t offset) { return std::uint64_t{Load32(siz + offset, true)}; };
  const std::uint64_t x1 = field(4), y1 = field(8), x0 = field(12), y0 = field(16);
  const std::uint64_t tile_width = field(20), tile_height = field(24), tile_x0 = field(28),
                      tile_y0 = field(32);
  CodestreamInfo info;
  info.components = Load16(siz + 36, true);
  if (info.components == 0 || length != 38 + std::size_t{3} * info.components || length > stream.size() - 4) {
    return BrokenStream();
  }
  if (x1 <= x0 || y1 <= y0 || tile_width == 0 || tile_height == 0 || tile_x0 > x0 || tile_y0 > y0) {
    return BrokenStream();
  }
  const std::uint64_t tiles_across = (x1 - tile_x0 + tile_width - 1) / tile_width;
  const std::uint64_t tiles_down = (y1 - tile_y0 + tile_height - 1) / tile_height;
  if (tiles_across > kMaxTiles || tiles_down > kMaxTiles || tiles_across * tiles_down > kMaxTiles) {
    return BrokenStream();
  }
  info.width = static_cast<std::uint32_t>(x1 - x0);
  info.height = static_cast<std::uint32_t>(y1 - y0);
  const auto depth = static_cast<std::uint32_t>(siz[38]);
  info.precision = (depth & 0x7F) + 1;
  info.is_signed = (depth & 0x80) != 0;
  for (std::uint32_t i = 0; i < info.components; ++i) {
    const std::byte* component = siz + 38 + std::size_t{3} * i;
    if (component[0] != siz[38] || component[1] != std::byte{1} || component[2] != std::byte{1}) {
      return BrokenStream();
    }
  }
  // COD lies anywhere in the main header, which ends at the first tile (SOT).
  std::size_t at = 4 + length;
  while (at + 4 <= stream.size()) {
    const std::uint32_t marker = Load16(stream.data() + at, true);
    if (marker < 0xFF00 || marker == 0xFF90) break;
    const std::size_t size = Load16(stream.data() + at + 2, true);
    if (size < 2 || size > stream.size() - at - 2) return BrokenStream();
    if (marker == 0xFF52) {
      if (size < 12) return BrokenStream();
      info.reversible = stream[at + 2 + 11] == std::byte{1};
      info.high_throughput = (stream[at + 2 + 10] & std::byte{0x40}) != std::byte{0};
      return info;
    }
    at += 2 + size;
  }
  return BrokenStream();
}

std::span<const std::byte> WithoutJp2(std::span<const std::byte> stream) {
  if (stream.size() < 12 || Load32(stream.data() + 4, true) != kJp2Signature) return stream;
  std::size_t at = 0;
  while (stream.size() - at >= 8) {
    const std::uint64_t size = Load32(stream.data() + at, true);
    const std::uint32_t type = Load32(stream.data() + at + 4, true);
    if (type == kJp2Codestream) {
      const std::size_t header = size == 1 ? 16 : 8;  // 1: a 64 bit length follows
      return stream.size() - at >= header ? stream.subspan(at + header) : std::span<const std::byte>();
    }
    if (size < 8 || size > stream.size() - at) break;
    at += size;
  }
  return {};
}

}  // namespace tomoserve::dicom
