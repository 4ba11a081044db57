// Which fragments of encapsulated pixel data belong to which frame (PS3.5 A.4).
#include <algorithm>
#include <optional>
#include <string_view>

#include "dicom/errors.h"
#include "dicom/tokenizer.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint64_t kItemHeaderBytes = 8;

// Whether a fragment begins a JPEG, JPEG-LS or JPEG 2000 codestream (or a JP2 file).
bool BeginsCodestream(std::span<const std::byte> file, const ByteRange& fragment) {
  constexpr std::string_view kMagic[] = {"\xFF\xD8\xFF", "\xFF\x4F\xFF\x51",
                                         std::string_view("\x00\x00\x00\x0CjP  ", 8)};
  const auto bytes = file.subspan(fragment.offset, fragment.length);
  return std::any_of(std::begin(kMagic), std::end(kMagic), [&](std::string_view magic) {
    return bytes.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), bytes.begin(),
                      [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
  });
}

// Offsets of the frames' first fragments from the first fragment's item.
class OffsetTable {
 public:
  OffsetTable(std::span<const std::byte> file, const FileLayout& layout) : file_(file), layout_(layout) {
    const std::uint64_t frames = layout.pixels.frames;
    if (layout.offset_table.length == frames * 4) {
      table_ = layout.offset_table;
      entry_bytes_ = 4;
    } else if (layout.extended_offsets.length == frames * 8) {
      table_ = layout.extended_offsets;
      entry_bytes_ = 8;
    }
  }

  bool there() const { return entry_bytes_ > 0; }

  // Index of the first fragment of a frame, if one begins where the table says.
  std::optional<std::size_t> FirstFragment(std::uint32_t frame) const {
    const std::byte* entry = file_.data() + table_.offset + std::uint64_t{entry_bytes_} * frame;
    std::uint64_t offset = Load32(entry, layout_.big_endian);
    if (entry_bytes_ == 8) {
      const std::uint64_t second = Load32(entry + 4, layout_.big_endian);
      offset = layout_.big_endian ? offset << 32 | second : second << 32 | offset;
    }
    // Offsets count from the first byte after the basic table, where an item's header stands.
    const std::uint64_t base = layout_.offset_table.offset + layout_.offset_table.length + kItemHeaderBytes;
    if (offset > file_.size()) return std::nullopt;
    const auto found =
        std::lower_bound(layout_.fragments.begin(), layout_.fragments.end(), base + offset,
                         [](const ByteRange& range, std::uint64_t at) { return range.offset < at; });
    if (found == layout_.fragments.end() || found->offset != base + offset) return std::nullopt;
    return static_cast<std::size_t>(found - layout_.fragments.begin());
  }

 private:
  std::span<const std::byte> file_;
  const FileLayout& layout_;
  ByteRange table_;
  std::uint32_t entry_bytes_ = 0;
};

}  // namespace

absl::StatusOr<std::span<const ByteRange>> FragmentsOfFrame(std::span<const std::byte> file,
                                                            const FileLayout& layout, std::uint32_t frame) {
  const std::span<const ByteRange> all(layout.fragments);
  const std::uint32_t frames = layout.pixels.frames;
  if (frame >= frames) return Refuse("FRAME_MISMATCH", frame, "the file has no such frame");
  if (frames == 1) {
    // RLE never splits a frame (PS3.5 A.4.2).
    return layout.syntax->codec == Codec::kRle ? all.first(1) : all;
  }
  if (all.size() == frames) return all.subspan(frame, 1);
  if (layout.syntax->codec == Codec::kRle) {
    return Refuse("MALFORMED", all.size(), "there are more fragments than frames");
  }
  // First fragment of the frame, and of the next one or the end; equal where they are not known.
  std::size_t first = 0;
  std::size_t next = 0;
  if (const OffsetTable table(file, layout); table.there()) {
    const std::optional<std::size_t> begin = table.FirstFragment(frame);
    const std::optional<std::size_t> end =
        frame + 1 < frames ? table.FirstFragment(frame + 1) : std::optional(all.size());
    first = begin.value_or(0);
    next = begin ? end.value_or(0) : 0;
  } else {
    std::uint32_t starts = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (!BeginsCodestream(file, all[i])) continue;
      if (starts == frame) first = i;
      if (starts == frame + 1) next = i;
      ++starts;
    }
    if (frame + 1 == frames) next = all.size();
    if (starts != frames) next = 0;
  }
  if (next <= first) {
    return Refuse("MALFORMED", all.size(), "the fragments cannot be told apart into frames");
  }
  return all.subspan(first, next - first);
}

}  // namespace tomoserve::dicom
