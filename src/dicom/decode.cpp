#include "tomoserve/dicom/decode.h"
#include "tomoserve/base/stored_type.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "dicom/codestream.h"
#include "dicom/dcmtk_frame.h"
#include "dicom/errors.h"
#include "dicom/htj2k.h"
#include "dicom/htj2k_markers.h"
#include "dicom/jpeg2000.h"
#include "dicom/jpeg_ls.h"
#include "dicom/rle.h"
#include "dicom/tags.h"

namespace tomoserve::dicom {
namespace {

static_assert(std::endian::native == std::endian::little, "native pixels are copied as little endian");

// From a word to a stored value: shift, mask, sign-extend.
struct ValueRule {
  std::uint32_t shift = 0;
  std::uint32_t bits = 0;
  std::uint32_t sign_bits = 0;  // 0: unsigned
  bool swap_bytes = false;
};

template <typename Word>
Word Swapped(Word word) {
  if constexpr (sizeof(Word) == 2) return static_cast<Word>(word >> 8 | word << 8);
  if constexpr (sizeof(Word) == 4) return __builtin_bswap32(word);
  return word;
}

// Arithmetic in the wider of the two words and no further, so that the compiler fills whole vectors.
template <typename Word, typename Stored, bool kSwap>
void ConvertWords(const std::byte* in, std::byte* out, std::size_t count, const ValueRule& rule) {
  using Wide = std::conditional_t<(sizeof(Word) > sizeof(Stored)), Word, Stored>;
  constexpr std::uint32_t kWideBits = 8 * sizeof(Wide);
  const auto low_bits = [](std::uint32_t bits) {
    return static_cast<Wide>(bits >= kWideBits ? ~Wide{0}
                                               : static_cast<Wide>((std::uint64_t{1} << bits) - 1));
  };
  const Wide sign = rule.sign_bits == 0 || rule.sign_bits > kWideBits
                        ? Wide{0}
                        : static_cast<Wide>(std::uint64_t{1} << (rule.sign_bits - 1));
  // Bits above the sign bit carry no value of their own.
  const Wide mask =
      static_cast<Wide>(low_bits(rule.bits) & (sign == 0 ? low_bits(kWideBits) : low_bits(rule.sign_bits)));
  const std::uint32_t shift = rule.shift;
  for (std::size_t i = 0; i < count; ++i) {
    Word word;
    std::memcpy(&word, in + i * sizeof(Word), sizeof(Word));
    if constexpr (kSwap) word = Swapped(word);
    const Wide value = static_cast<Wide>((static_cast<Wide>(word) >> shift) & mask);
    const auto stored = static_cast<Stored>((value ^ sign) - sign);
    std::memcpy(out + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

template <typename Word, typename Stored>
void ConvertSwapped(const std::byte* in, std::byte* out, std::size_t count, const ValueRule& rule) {
  if (rule.swap_bytes && sizeof(Word) > 1) {
    ConvertWords<Word, Stored, true>(in, out, count, rule);
  } else {
    ConvertWords<Word, Stored, false>(in, out, count, rule);
  }
}

template <typename Word>
void ConvertTo(const std::byte* in, std::span<std::byte> out, std::uint32_t stored_bytes,
               const ValueRule& rule) {
  const std::size_t count = out.size() / stored_bytes;
  if (stored_bytes == 1) ConvertSwapped<Word, std::uint8_t>(in, out.data(), count, rule);
  if (stored_bytes == 2) ConvertSwapped<Word, std::uint16_t>(in, out.data(), count, rule);
  if (stored_bytes == 4) ConvertSwapped<Word, std::uint32_t>(in, out.data(), count, rule);
}

// `in`: as many words of `word_bytes` as `out` holds values of `stored_bytes`.
void Convert(const std::byte* in, std::uint32_t word_bytes, std::span<std::byte> out,
             std::uint32_t stored_bytes, const ValueRule& rule) {
  if (word_bytes == 1) ConvertTo<std::uint8_t>(in, out, stored_bytes, rule);
  if (word_bytes == 2) ConvertTo<std::uint16_t>(in, out, stored_bytes, rule);
  if (word_bytes == 4) ConvertTo<std::uint32_t>(in, out, stored_bytes, rule);
}

ValueRule RuleOf(const PixelFormat& pixels) {
  ValueRule rule;
  rule.shift = pixels.high_bit + 1 - pixels.bits_stored;
  rule.bits = pixels.bits_stored;
  rule.sign_bits = pixels.is_signed ? pixels.bits_stored : 0;
  return rule;
}

absl::Status CheckCodestream(const CodestreamInfo& info, const PixelFormat& pixels) {
  if (info.width != pixels.columns || info.height != pixels.rows || info.components != 1 ||
      info.precision == 0 || info.precision > pixels.bits_allocated) {
    return Refuse("CODESTREAM_MISMATCH", std::to_string(info.width) + "x" + std::to_string(info.height),
                  "a frame's codestream has other dimensions than the header says");
  }
  return absl::OkStatus();
}

// A codestream whose samples are wider than Bits Stored holds whole words; any other holds values.
ValueRule RuleOf(const PixelFormat& pixels, const CodestreamInfo& info) {
  ValueRule rule = RuleOf(pixels);
  if (info.precision <= pixels.high_bit) rule.shift = 0;
  return rule;
}

absl::Status DecodeNative(std::span<const std::byte> file, const FileLayout& layout, std::uint32_t frame,
                          std::span<std::byte> out) {
  const PixelFormat& pixels = layout.pixels;
  const std::uint32_t word_bytes = pixels.bits_allocated / 8;
  const auto all = file.subspan(layout.native_pixels.offset, layout.native_pixels.length);
  const std::uint64_t begin = std::uint64_t{frame} * out.size();
  ValueRule rule = RuleOf(pixels);
  rule.swap_bytes = layout.big_endian;
  if (word_bytes == 1 && layout.big_endian && layout.pixels_are_words) {
    // Pairs of pixels share a big-endian word.
    std::vector<std::byte> plain(out.size());
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const std::uint64_t at = (begin + i) ^ 1;
      plain[i] = at < all.size() ? all[at] : std::byte{0};
    }
    Convert(plain.data(), 1, out, 1, rule);
    return absl::OkStatus();
  }
  Convert(all.data() + begin, word_bytes, out, word_bytes, rule);
  return absl::OkStatus();
}

absl::Status DecodeJpegFamily(const FileLayout& layout, std::span<const std::byte> stream,
                              std::span<std::byte> out) {
  const PixelFormat& pixels = layout.pixels;
  TS_ASSIGN_OR_RETURN(const CodestreamInfo info, ReadJpegInfo(stream));
  TS_RETURN_IF_ERROR(CheckCodestream(info, pixels));
  if (info.precision > 16)
    return Refuse("CODESTREAM_MISMATCH", info.precision, "JPEG samples have 16 bits at most");
  const std::uint32_t word_bytes = info.precision > 8 ? 2 : 1;
  std::vector<std::byte> words(std::size_t{pixels.rows} * pixels.columns * word_bytes);
  if (layout.syntax->codec == Codec::kJpegLs) TS_RETURN_IF_ERROR(CheckJpegLsParameters(stream));
  TS_RETURN_IF_ERROR(DecodeByDcmtk(layout.syntax->uid, stream, info, words));
  Convert(words.data(), word_bytes, out, pixels.bits_allocated / 8, RuleOf(pixels, info));
  return absl::OkStatus();
}

// OpenJPH is many times faster than OpenJPEG, and knows plain codestreams of HT code blocks only.
absl::Status DecodeHtj2kFrame(std::span<const std::byte> stream, const CodestreamInfo& info, bool slow_codec,
                              std::span<std::int32_t> samples) {
  constexpr std::uint32_t kMaxPrecision = 16;
  TS_ASSIGN_OR_RETURN(const bool plain, IsPlainHtj2k(stream));
  if (slow_codec || !plain || info.precision > kMaxPrecision) return DecodeJpeg2000(stream, samples);
  try {
    return DecodeHtj2k(stream, info, samples);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (...) {
    return Refuse("CODESTREAM_BROKEN", "", "the HTJ2K codestream is broken or cut off");
  }
}

absl::Status DecodeJpeg2000Frame(const FileLayout& layout, std::span<const std::byte> stream, bool slow_codec,
                                 std::span<std::byte> out) {
  const PixelFormat& pixels = layout.pixels;
  stream = WithoutJp2(stream);
  TS_ASSIGN_OR_RETURN(const CodestreamInfo info, ReadJpeg2000Info(stream));
  TS_RETURN_IF_ERROR(CheckCodestream(info, pixels));
  std::vector<std::int32_t> samples(std::size_t{pixels.rows} * pixels.columns);
  TS_RETURN_IF_ERROR(info.high_throughput ? DecodeHtj2kFrame(stream, info, slow_codec, samples)
                                          : DecodeJpeg2000(stream, samples));
  ValueRule rule = RuleOf(pixels, info);
  // The header decides the sign. An unsigned codestream holds a signed value's low bits.
  if (pixels.is_signed && !info.is_signed) rule.sign_bits = std::min(rule.sign_bits, info.precision);
  if (!pixels.is_signed && info.is_signed) rule.bits = std::min(rule.bits, info.precision);
  Convert(reinterpret_cast<const std::byte*>(samples.data()), 4, out, pixels.bits_allocated / 8, rule);
  return absl::OkStatus();
}

absl::Status Decode(std::span<const std::byte> file, const FileLayout& layout, const FrameRequest& request,
                    std::span<std::byte> slot) {
  const PixelFormat& pixels = layout.pixels;
  if (!layout.has_pixels || request.frame >= pixels.frames || request.rows != pixels.rows ||
      request.columns != pixels.columns || request.stored_type != StoredTypeOf(pixels)) {
    return Refuse("FRAME_MISMATCH", request.frame, "the file's frame is not what the header pass said");
  }
  const std::uint32_t stored_bytes = base::BytesOf(request.stored_type);
  if (stored_bytes == 0)
    return Refuse("UNSUPPORTED_PIXELS", "", "these pixels cannot be a slice of a volume");
  const std::uint64_t frame_bytes = std::uint64_t{pixels.rows} * pixels.columns * stored_bytes;
  if (slot.size() < frame_bytes)
    return Refuse("SLOT_TOO_SMALL", frame_bytes, "the frame does not fit its slot");
  const std::span<std::byte> out = slot.first(frame_bytes);
  if (layout.syntax->codec == Codec::kNative) return DecodeNative(file, layout, request.frame, out);

  TS_ASSIGN_OR_RETURN(const std::span<const ByteRange> fragments,
                      FragmentsOfFrame(file, layout, request.frame));
  std::vector<std::byte> joined;
  std::span<const std::byte> stream = file.subspan(fragments[0].offset, fragments[0].length);
  if (fragments.size() > 1) {
    for (const ByteRange& fragment : fragments) {
      const auto part = file.subspan(fragment.offset, fragment.length);
      joined.insert(joined.end(), part.begin(), part.end());
    }
    stream = joined;
  }
  switch (layout.syntax->codec) {
    case Codec::kRle:
      TS_RETURN_IF_ERROR(DecodeRleFrame(stream, stored_bytes, out));
      Convert(out.data(), stored_bytes, out, stored_bytes, RuleOf(pixels));
      return absl::OkStatus();
    case Codec::kJpeg:
    case Codec::kJpegLs:
      return DecodeJpegFamily(layout, stream, out);
    case Codec::kJpeg2000:
      return DecodeJpeg2000Frame(layout, stream, request.slow_codec, out);
    case Codec::kNative:
      break;
  }
  return Refuse("UNSUPPORTED_PIXELS", "", "these pixels cannot be a slice of a volume");
}

}  // namespace

absl::Status CutTile(std::span<const std::byte> frame, const FrameRequest& request, const ipc::v1::Tile& tile,
                     std::span<std::byte> slot) {
  const std::uint64_t pixel_bytes = base::BytesOf(request.stored_type);
  if (tile.rows() == 0 || tile.columns() == 0 ||
      std::uint64_t{tile.first_row()} + tile.rows() > request.rows ||
      std::uint64_t{tile.first_column()} + tile.columns() > request.columns ||
      frame.size() < pixel_bytes * request.rows * request.columns) {
    return Refuse("FRAME_MISMATCH", request.frame, "the tile lies outside the frame");
  }
  const std::uint64_t row_bytes = pixel_bytes * tile.columns();
  if (slot.size() < row_bytes * tile.rows()) {
    return Refuse("SLOT_TOO_SMALL", row_bytes * tile.rows(), "the tile does not fit its slot");
  }
  for (std::uint64_t row = 0; row < tile.rows(); ++row) {
    const std::uint64_t from =
        ((tile.first_row() + row) * request.columns + tile.first_column()) * pixel_bytes;
    std::memcpy(slot.data() + row * row_bytes, frame.data() + from, row_bytes);
  }
  return absl::OkStatus();
}

ipc::v1::StoredType StoredTypeOf(const PixelFormat& pixels) {
  if (pixels.samples != 1) return ipc::v1::STORED_TYPE_UNSPECIFIED;
  switch (pixels.bits_allocated) {
    case 8:
      return pixels.is_signed ? ipc::v1::STORED_TYPE_I8 : ipc::v1::STORED_TYPE_U8;
    case 16:
      return pixels.is_signed ? ipc::v1::STORED_TYPE_I16 : ipc::v1::STORED_TYPE_U16;
    case 32:
      return pixels.is_signed ? ipc::v1::STORED_TYPE_I32 : ipc::v1::STORED_TYPE_U32;
    default:
      return ipc::v1::STORED_TYPE_UNSPECIFIED;
  }
}

absl::Status DecodeFrame(const Runtime&, std::span<const std::byte> file, const FileLayout& layout,
                         const FrameRequest& request, std::span<std::byte> slot) {
  return Fenced([&]() -> absl::Status { return Decode(file, layout, request, slot); });
}

}  // namespace tomoserve::dicom
