// Enhanced multi-frame images, valid ones and others.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dicom/file_builder.h"

namespace tomoserve::dicom::testing {

// How the sequences of a file are written.
struct SequenceStyle {
  std::string_view syntax = kExplicitLittleEndian;
  bool defined_lengths = false;
  // Functional groups have VR UN with a length, and are implicit inside (PS3.5 6.2.2).
  bool hidden = false;
};

// Builds datasets in one style, inside out.
class EnhancedWriter {
 public:
  explicit EnhancedWriter(const SequenceStyle& style) : style_(style) {}

  // An empty dataset, for an item.
  FileBuilder Item() const {
    const TransferSyntax& syntax = *FindTransferSyntax(style_.syntax);
    return FileBuilder::Bare(syntax.implicit_vr || style_.hidden, syntax.big_endian);
  }
  FileBuilder Fd(std::uint32_t tag, const std::vector<double>& values) const {
    FileBuilder dataset = Item();
    dataset.Header(tag, "FD", static_cast<std::uint32_t>(values.size() * 8));
    for (const double value : values) {
      const auto bits = std::bit_cast<std::uint64_t>(value);
      const auto low = static_cast<std::uint32_t>(bits);
      const auto high = static_cast<std::uint32_t>(bits >> 32);
      const bool big = FindTransferSyntax(style_.syntax)->big_endian;
      dataset.U32(big ? high : low).U32(big ? low : high);
    }
    return dataset;
  }
  FileBuilder Ul(std::uint32_t tag, const std::vector<std::uint32_t>& values) const {
    FileBuilder dataset = Item();
    dataset.Header(tag, "UL", static_cast<std::uint32_t>(values.size() * 4));
    for (const std::uint32_t value : values) dataset.U32(value);
    return dataset;
  }
  FileBuilder Text(std::uint32_t tag, std::string_view vr, std::string_view value) const {
    return Item().Text(tag, vr, value);
  }
  FileBuilder Us(std::uint32_t tag, std::uint32_t value) const { return Item().Us(tag, value); }
  // Elements one after the other.
  FileBuilder Join(const std::vector<FileBuilder>& parts) const {
    FileBuilder dataset = Item();
    for (const FileBuilder& part : parts) dataset.Raw(part.bytes());
    return dataset;
  }
  FileBuilder Sequence(std::uint32_t tag, const std::vector<FileBuilder>& items) const {
    FileBuilder dataset = Item();
    if (!style_.defined_lengths && !style_.hidden) {
      dataset.Header(tag, "SQ", FileBuilder::kUndefined);
      for (const FileBuilder& item : items) dataset.Item(FileBuilder::kUndefined).Raw(item.bytes()).ItemEnd();
      return dataset.SequenceEnd();
    }
    FileBuilder content = Item();
    for (const FileBuilder& item : items) {
      content.Item(static_cast<std::uint32_t>(item.bytes().size())).Raw(item.bytes());
    }
    return dataset.Header(tag, "SQ", static_cast<std::uint32_t>(content.bytes().size())).Raw(content.bytes());
  }

  // A functional group: a sequence with one item.
  FileBuilder Group(std::uint32_t tag, const std::vector<FileBuilder>& values) const {
    return Sequence(tag, {Join(values)});
  }
  FileBuilder Position(std::string_view value) const {
    return Group(0x00209113, {Text(0x00200032, "DS", value)});
  }
  FileBuilder Orientation(std::string_view value) const {
    return Group(0x00209116, {Text(0x00200037, "DS", value)});
  }
  FileBuilder Measures(std::string_view spacing, std::string_view thickness) const {
    return Group(0x00289110, {Text(0x00180050, "DS", thickness), Text(0x00280030, "DS", spacing)});
  }
  FileBuilder Transformation(std::string_view slope, std::string_view intercept,
                             std::string_view type) const {
    return Group(0x00289145, {Text(0x00281052, "DS", intercept), Text(0x00281053, "DS", slope),
                              Text(0x00281054, "LO", type)});
  }
  // Frame content of frame number `n`, from 0.
  FileBuilder Content(std::uint32_t n) const {
    return Group(0x00209111, {Text(0x00209056, "SH", "S1"), Ul(0x00209128, {1 + n / 2}),
                              Us(0x00209156, 7 + n), Ul(0x00209157, {1, n + 1})});
  }

  // A whole file of 2 x 2 pixels of 16 bits; the frames' values count on from 0.
  FileBuilder File(const std::vector<FileBuilder>& shared,
                   const std::vector<std::vector<FileBuilder>>& frames,
                   std::string_view sop_class = "1.2.840.10008.5.1.4.1.1.2.1",
                   std::string_view modality = "CT", std::string_view more = "") const {
    FileBuilder file = FileBuilder::WithMeta(style_.syntax);
    file.Text(0x00080016, "UI", sop_class).Text(0x00080060, "CS", modality).Raw(more);
    file.Pixels(2, 2, 16, 16, 15, false, std::to_string(frames.size()));
    std::vector<FileBuilder> items;
    for (const std::vector<FileBuilder>& frame : frames) items.push_back(Join(frame));
    AddGroups(file, 0x52009229, {Join(shared)});
    AddGroups(file, 0x52009230, items);
    return AddPixels(file, static_cast<std::uint32_t>(frames.size()));
  }
  void AddGroups(FileBuilder& file, std::uint32_t tag, const std::vector<FileBuilder>& items) const {
    if (!style_.hidden) {
      file.Raw(Sequence(tag, items).bytes());
      return;
    }
    FileBuilder content = Item();
    for (const FileBuilder& item : items) {
      content.Item(static_cast<std::uint32_t>(item.bytes().size())).Raw(item.bytes());
    }
    file.Header(tag, "UN", static_cast<std::uint32_t>(content.bytes().size())).Raw(content.bytes());
  }
  static FileBuilder AddPixels(FileBuilder& file, std::uint32_t frames) {
    file.Header(0x7FE00010, "OW", frames * 8);
    for (std::uint32_t i = 0; i < frames * 4; ++i) file.U16(i & 0xFFFF);
    return file;
  }

 private:
  SequenceStyle style_;
};

}  // namespace tomoserve::dicom::testing
