#include "dicom/rle.h"

#include <bit>

#include "dicom/errors.h"
#include "dicom/tokenizer.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint64_t kHeaderBytes = 64;
constexpr std::uint32_t kMaxSegments = 15;
// A run of 128 equal bytes takes two.
constexpr std::uint64_t kBestRatio = 64;

std::uint32_t SegmentOffset(std::span<const std::byte> fragment, std::uint32_t segment) {
  return Load32(fragment.data() + 4 + 4 * segment, false);
}

// PackBits into every `stride`th byte of `out`, from `first`.
absl::Status DecodeSegment(std::span<const std::byte> segment, std::span<std::byte> out, std::size_t first,
                           std::size_t stride) {
  std::size_t in = 0;
  std::size_t at = first;
  while (at < out.size()) {
    if (in >= segment.size()) {
      return Refuse("CODESTREAM_BROKEN", at, "an RLE segment ends before the frame does");
    }
    const auto control = static_cast<std::int8_t>(segment[in++]);
    if (control >= 0) {
      const std::size_t count = static_cast<std::size_t>(control) + 1;
      if (count > segment.size() - in) {
        return Refuse("CODESTREAM_BROKEN", at, "an RLE segment ends inside a run");
      }
      for (std::size_t i = 0; i < count && at < out.size(); ++i, at += stride) out[at] = segment[in + i];
      in += count;
    } else if (control != -128) {
      if (in >= segment.size()) {
        return Refuse("CODESTREAM_BROKEN", at, "an RLE segment ends inside a run");
      }
      const std::size_t count = static_cast<std::size_t>(1 - control);
      for (std::size_t i = 0; i < count && at < out.size(); ++i, at += stride) out[at] = segment[in];
      ++in;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRleFrame(std::span<const std::byte> fragment, std::uint32_t bytes_per_pixel,
                           std::uint64_t pixels) {
  if (fragment.size() < kHeaderBytes) {
    return Refuse("MALFORMED", fragment.size(), "an RLE frame is shorter than its header");
  }
  const std::uint32_t segments = Load32(fragment.data(), false);
  if (segments == 0 || segments > kMaxSegments || segments != bytes_per_pixel) {
    return Refuse("MALFORMED", segments, "an RLE frame has not one segment for each byte of a pixel");
  }
  for (std::uint32_t i = 0; i < segments; ++i) {
    const std::uint64_t begin = SegmentOffset(fragment, i);
    const std::uint64_t end = i + 1 < segments ? SegmentOffset(fragment, i + 1) : fragment.size();
    if (begin < kHeaderBytes || begin > end || end > fragment.size()) {
      return Refuse("MALFORMED", begin, "an RLE segment lies outside its frame");
    }
    if ((end - begin) * kBestRatio < pixels) {
      return Refuse("PIXELS_MISSING", end - begin, "an RLE segment is too short for the frame");
    }
  }
  return absl::OkStatus();
}

absl::Status DecodeRleFrame(std::span<const std::byte> fragment, std::uint32_t bytes_per_pixel,
                            std::span<std::byte> out) {
  TS_RETURN_IF_ERROR(CheckRleFrame(fragment, bytes_per_pixel, out.size() / bytes_per_pixel));
  for (std::uint32_t i = 0; i < bytes_per_pixel; ++i) {
    const std::uint64_t begin = SegmentOffset(fragment, i);
    const std::uint64_t end = i + 1 < bytes_per_pixel ? SegmentOffset(fragment, i + 1) : fragment.size();
    // The most significant byte comes first.
    const std::uint32_t byte = std::endian::native == std::endian::little ? bytes_per_pixel - 1 - i : i;
    TS_RETURN_IF_ERROR(DecodeSegment(fragment.subspan(begin, end - begin), out, byte, bytes_per_pixel));
  }
  return absl::OkStatus();
}

}  // namespace tomoserve::dicom
