#include "tomoserve/dicom/gatekeeper.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <optional>
#include <string_view>

#include "dicom/errors.h"
#include "dicom/functional_groups.h"
#include "dicom/rle.h"
#include "dicom/tags.h"
#include "dicom/tokenizer.h"
#include "dicom/values.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint64_t kPreambleBytes = 128;
constexpr std::uint64_t kMaxInstanceBytes = 2ull << 30;
// Items of one sequence whose values are kept.
constexpr std::uint32_t kMaxKeptItems = 16;
// Longest value that the header pass could want.
constexpr std::uint64_t kMaxHeaderValueBytes = 64 * 1024;
// Longest private value that is looked at.
constexpr std::uint64_t kMaxPrivateValueBytes = 1024 * 1024;

bool StartsWith(std::span<const std::byte> file, std::string_view magic, std::uint64_t offset = 0) {
  if (file.size() < offset + magic.size()) return false;
  return std::equal(magic.begin(), magic.end(), file.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

// A preamble that an operating system would run (CVE-2019-11687): PE, ELF, scripts, Mach-O.
bool IsExecutable(std::span<const std::byte> file) {
  constexpr std::array<std::string_view, 8> kMagic = {"MZ",
                                                      "\x7F"
                                                      "ELF",
                                                      "#!",
                                                      "\xFE\xED\xFA\xCE",
                                                      "\xFE\xED\xFA\xCF",
                                                      "\xCE\xFA\xED\xFE",
                                                      "\xCF\xFA\xED\xFE",
                                                      "\xCA\xFE\xBA\xBE"};
  return std::any_of(kMagic.begin(), kMagic.end(),
                     [&](std::string_view magic) { return StartsWith(file, magic); });
}

// A UID that may be repeated in an error; anything else is not.
std::string_view Quotable(std::string_view uid) {
  const bool is_uid = uid.size() <= 64 && uid.find_first_not_of("0123456789.") == std::string_view::npos;
  return is_uid ? uid : std::string_view();
}

// Fills the layout with what the walk meets.
class LayoutSink : public TokenSink {
 public:
  explicit LayoutSink(FileLayout& layout) : layout_(layout) {}

  absl::Status Element(std::span<const Step> path, std::uint32_t element, ByteRange value,
                       bool is_words) override {
    if (path.empty() && element == tag::kPixelData) {
      TS_RETURN_IF_ERROR(FoundPixels());
      layout_.native_pixels = value;
      layout_.pixels_are_words = is_words;
      return absl::OkStatus();
    }
    const std::uint32_t outermost = path.empty() ? element : path.front().sequence;
    switch (outermost) {
      case tag::kSharedFunctionalGroupsSequence:
      case tag::kPerFrameFunctionalGroupsSequence:
        return path.empty() ? absl::OkStatus() : KeepGroupValue(path, element, value, layout_);
      case tag::kModalityLutSequence:
        // Encoded as something else than a sequence.
        layout_.has_modality_lut = layout_.has_modality_lut || value.length > 0;
        return absl::OkStatus();
      case tag::kExtendedOffsetTable:
        layout_.extended_offsets = value;
        return absl::OkStatus();
      default:
        break;
    }
    if (path.empty() && IsPrivateHeaderElement(element)) {
      if (value.length <= kMaxPrivateValueBytes && !IsKept({}, element)) {
        layout_.elements.push_back({element, 0, 0, value});
      }
      return absl::OkStatus();
    }
    if (path.size() > 1) return absl::OkStatus();
    const Step step = path.empty() ? Step{} : path.front();
    if (step.item >= kMaxKeptItems || !IsHeaderElement(step.sequence, element)) return absl::OkStatus();
    if (IsKept(step, element)) return Refuse("MALFORMED", TagName(element), "an element is there twice");
    if (value.length > kMaxHeaderValueBytes) {
      return Refuse("MALFORMED", TagName(element), "a short value is longer than any valid one");
    }
    layout_.elements.push_back({element, step.sequence, step.item, value});
    return absl::OkStatus();
  }

  void Item(std::span<const Step> path) override {
    if (path.size() == 1 && path[0].sequence == tag::kModalityLutSequence) layout_.has_modality_lut = true;
  }

  absl::Status Fragment(std::span<const Step> path, std::uint32_t element, std::uint32_t number,
                        ByteRange value) override {
    if (!path.empty() || element != tag::kPixelData) return absl::OkStatus();
    if (number == 0) {
      TS_RETURN_IF_ERROR(FoundPixels());
      layout_.offset_table = value;
    } else {
      layout_.fragments.push_back(value);
    }
    return absl::OkStatus();
  }

 private:
  bool IsKept(const Step& step, std::uint32_t element) const {
    return std::any_of(layout_.elements.begin(), layout_.elements.end(), [&](const HeaderElement& other) {
      return other.tag == element && other.sequence == step.sequence && other.item == step.item;
    });
  }

  absl::Status FoundPixels() {
    if (layout_.has_pixels) return Refuse("MALFORMED", TagName(tag::kPixelData), "an element is there twice");
    layout_.has_pixels = true;
    return absl::OkStatus();
  }

  FileLayout& layout_;
};

// Where the meta header or, without one, the dataset begins.
absl::StatusOr<std::uint64_t> FindStart(std::span<const std::byte> file) {
  if (StartsWith(file, "DICM", kPreambleBytes)) return kPreambleBytes + 4;
  // Without preamble: only a file that begins like a meta header or a dataset does, with group 2 or 8.
  if (file.size() < 8) return Refuse("NOT_DICOM", "", "the file is no DICOM file");
  const std::uint16_t group = Load16(file.data(), false);
  const bool little = (group == 0x0002 || group == 0x0008) && Load16(file.data() + 2, false) <= 0x0100;
  const bool big = Load16(file.data(), true) == 0x0008 && Load16(file.data() + 2, true) <= 0x0100;
  if (!little && !big) return Refuse("NOT_DICOM", "", "the file is no DICOM file");
  return std::uint64_t{0};
}

bool LooksExplicit(std::span<const std::byte> file, std::uint64_t at) {
  const auto is_upper = [](std::byte letter) { return letter >= std::byte{'A'} && letter <= std::byte{'Z'}; };
  return file.size() >= at + 6 && is_upper(file[at + 4]) && is_upper(file[at + 5]);
}

// What pydicom does for a dataset of unknown syntax: the first element shows explicit VR by two capital
// letters, big endian by a group that would be above 0x0400 the other way round.
const TransferSyntax* GuessSyntax(std::span<const std::byte> file, std::uint64_t at) {
  if (!LooksExplicit(file, at)) return FindTransferSyntax(kImplicitLittleEndian);
  const bool big = Load16(file.data() + at, false) >= 0x0400;
  return FindTransferSyntax(big ? kExplicitBigEndian : kExplicitLittleEndian);
}

absl::Status CheckedProduct(std::initializer_list<std::uint64_t> factors, std::uint64_t limit,
                            std::uint64_t& product) {
  product = 1;
  for (const std::uint64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product))
      product = std::numeric_limits<std::uint64_t>::max();
    if (product == std::numeric_limits<std::uint64_t>::max()) break;
  }
  if (product > limit) {
    return Refuse("PIXELS_TOO_LARGE", product, "the header claims more pixel data than the limit");
  }
  return absl::OkStatus();
}

absl::Status Need(bool condition, std::uint32_t element) {
  if (condition) return absl::OkStatus();
  return Refuse("MALFORMED", TagName(element),
                "the header says no valid number here, but pixel data is there");
}

absl::Status ReadPixelFormat(const HeaderValues& values, PixelFormat& pixels) {
  pixels.rows = values.Unsigned16(tag::kRows).value_or(0);
  pixels.columns = values.Unsigned16(tag::kColumns).value_or(0);
  pixels.samples = values.Unsigned16(tag::kSamplesPerPixel).value_or(1);
  pixels.bits_allocated = values.Unsigned16(tag::kBitsAllocated).value_or(0);
  pixels.bits_stored =
      values.Unsigned16(tag::kBitsStored).value_or(static_cast<std::uint16_t>(pixels.bits_allocated));
  TS_RETURN_IF_ERROR(Need(pixels.rows > 0, tag::kRows));
  TS_RETURN_IF_ERROR(Need(pixels.columns > 0, tag::kColumns));
  TS_RETURN_IF_ERROR(Need(pixels.samples > 0, tag::kSamplesPerPixel));
  const std::uint32_t allocated = pixels.bits_allocated;
  TS_RETURN_IF_ERROR(
      Need(allocated == 1 || (allocated > 0 && allocated <= 64 && allocated % 8 == 0), tag::kBitsAllocated));
  TS_RETURN_IF_ERROR(Need(pixels.bits_stored > 0 && pixels.bits_stored <= allocated, tag::kBitsStored));
  pixels.high_bit =
      values.Unsigned16(tag::kHighBit).value_or(static_cast<std::uint16_t>(pixels.bits_stored - 1));
  if (pixels.high_bit >= allocated || pixels.high_bit + 1 < pixels.bits_stored) {
    pixels.high_bit = pixels.bits_stored - 1;
    pixels.high_bit_repaired = true;
  }
  const std::uint16_t representation = values.Unsigned16(tag::kPixelRepresentation).value_or(0);
  TS_RETURN_IF_ERROR(Need(representation <= 1, tag::kPixelRepresentation));
  pixels.is_signed = representation == 1;
  const std::string_view frames = Trim(values.Raw(tag::kNumberOfFrames).value_or(""));
  if (!frames.empty()) {
    const auto count = ParseInteger(frames);
    TS_RETURN_IF_ERROR(Need(count && *count > 0, tag::kNumberOfFrames));
    pixels.frames = static_cast<std::uint32_t>(*count);
  }
  return absl::OkStatus();
}

absl::Status CheckPixels(std::span<const std::byte> file, const Limits& limits, FileLayout& layout) {
  const HeaderValues values(file, layout);
  TS_RETURN_IF_ERROR(ReadPixelFormat(values, layout.pixels));
  const PixelFormat& pixels = layout.pixels;
  const std::uint64_t frame_pixels = std::uint64_t{pixels.rows} * pixels.columns;
  const bool is_bitmap = pixels.bits_allocated == 1;
  std::uint64_t claimed = 0;
  TS_RETURN_IF_ERROR(
      CheckedProduct({frame_pixels, pixels.frames, pixels.samples, (pixels.bits_allocated + 7) / 8},
                     limits.pixel_bytes, claimed));
  if (layout.syntax->codec == Codec::kNative) {
    if (!layout.fragments.empty() || layout.offset_table.length > 0) {
      return Refuse("MALFORMED", TagName(tag::kPixelData), "pixel data is encapsulated in a native syntax");
    }
    if (is_bitmap) claimed = (claimed + 7) / 8;
    // Chrominance is stored at half the width (PS3.3 C.7.6.3.1.2).
    if (Trim(values.Raw(tag::kPhotometric).value_or("")) == "YBR_FULL_422") claimed = claimed / 3 * 2;
    if (layout.native_pixels.length < claimed) {
      return Refuse("PIXELS_MISSING", layout.native_pixels.length,
                    "there is less pixel data than the header claims");
    }
    return absl::OkStatus();
  }
  if (layout.native_pixels.length > 0) {
    return Refuse("MALFORMED", TagName(tag::kPixelData), "pixel data is native in an encapsulated syntax");
  }
  // Few bytes of a codestream can claim much; native pixel data is in the file and so within its limit.
  const std::uint64_t frame_bytes = claimed / pixels.frames;
  if (frame_bytes > limits.instance_bytes) {
    return Refuse("PIXELS_TOO_LARGE", frame_bytes,
                  "the header claims a frame larger than an instance may be");
  }
  const bool any_empty = std::any_of(layout.fragments.begin(), layout.fragments.end(),
                                     [](const ByteRange& fragment) { return fragment.length == 0; });
  if (layout.fragments.size() < pixels.frames || (any_empty && layout.fragments.size() == pixels.frames)) {
    return Refuse("PIXELS_MISSING", layout.fragments.size(), "there are fewer fragments than frames");
  }
  if (layout.syntax->codec == Codec::kRle) {
    TS_RETURN_IF_ERROR(Need(!is_bitmap, tag::kBitsAllocated));
    for (std::uint32_t frame = 0; frame < pixels.frames; ++frame) {
      const ByteRange& fragment = layout.fragments[frame];
      TS_RETURN_IF_ERROR(CheckRleFrame(file.subspan(fragment.offset, fragment.length),
                                       pixels.samples * pixels.bits_allocated / 8, frame_pixels));
    }
  }
  return absl::OkStatus();
}

// Fills `layout` as far as it gets.
absl::Status InspectInto(std::span<const std::byte> file, const Limits& limits, FileLayout& layout) {
  if (file.empty()) return Refuse("EMPTY_FILE", "0", "the file has no bytes");
  if (file.size() > limits.instance_bytes) {
    return Refuse("INSTANCE_TOO_LARGE", file.size(), "the file is larger than the limit");
  }
  if (IsExecutable(file)) return Refuse("EXECUTABLE_PREAMBLE", "", "the preamble is that of a program");
  TS_ASSIGN_OR_RETURN(std::uint64_t start, FindStart(file));

  LayoutSink sink(layout);
  Tokenizer tokenizer(file, limits, sink);
  TS_ASSIGN_OR_RETURN(start, tokenizer.Run(start, {}, 0x0002));
  const auto declared = HeaderValues(file, layout).Raw(tag::kTransferSyntaxUid);
  if (file.size() - start < 8) return Refuse("TRUNCATED", start, "the file ends before its first element");
  if (declared && !Trim(*declared).empty()) {
    const std::string_view uid = Trim(*declared);
    const TransferSyntax* const syntax = FindTransferSyntax(uid);
    const bool deflated = syntax != nullptr && syntax->deflated;
    layout.syntax = deflated && !limits.deflated ? nullptr : syntax;
    if (layout.syntax == nullptr) {
      // Only its pixels are unreadable.
      if (!deflated) tokenizer.Run(start, {!LooksExplicit(file, start), false}).IgnoreError();
      return base::Error(absl::StatusCode::kUnimplemented, "UNSUPPORTED_TRANSFER_SYNTAX", Quotable(uid),
                         std::string(RefusedSyntaxName(uid)) + " is not read here");
    }
  } else {
    layout.syntax = GuessSyntax(file, start);
    layout.syntax_guessed = true;
  }
  // The first element shows whether the declaration is true.
  layout.big_endian = layout.syntax->big_endian;
  layout.implicit_vr = !LooksExplicit(file, start);
  TS_RETURN_IF_ERROR(tokenizer.Run(start, {layout.implicit_vr, layout.big_endian}).status());
  return layout.has_pixels ? CheckPixels(file, limits, layout) : absl::OkStatus();
}

}  // namespace

std::string TagName(std::uint32_t element) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "(%04X,%04X)", element >> 16, element & 0xFFFF);
  return text.data();
}

Limits LimitsFrom(const ipc::v1::GatekeeperLimits& message) {
  Limits limits;
  if (message.nesting() > 0) limits.nesting = message.nesting();
  if (message.elements() > 0) limits.elements = message.elements();
  if (message.instance_bytes() > 0)
    limits.instance_bytes = std::min(message.instance_bytes(), kMaxInstanceBytes);
  if (message.pixel_bytes() > 0) limits.pixel_bytes = message.pixel_bytes();
  limits.deflated = message.deflated();
  return limits;
}

absl::StatusOr<FileLayout> Inspect(std::span<const std::byte> file, const Limits& limits) {
  FileLayout layout;
  TS_RETURN_IF_ERROR(InspectInto(file, limits, layout));
  return layout;
}

FileLayout InspectPart(std::span<const std::byte> file, const Limits& limits) {
  FileLayout layout;
  InspectInto(file, limits, layout).IgnoreError();
  return layout;
}

}  // namespace tomoserve::dicom
