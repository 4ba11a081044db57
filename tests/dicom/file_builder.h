// Builds DICOM files byte by byte, valid ones and others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/dicom/transfer_syntax.h"

namespace tomoserve::dicom::testing {

class FileBuilder {
 public:
  static constexpr std::uint32_t kUndefined = 0xFFFFFFFF;

  // Preamble, magic and a meta header with this transfer syntax.
  static FileBuilder WithMeta(std::string_view syntax) {
    FileBuilder builder;
    builder.bytes_.resize(128);
    builder.Raw("DICM");
    builder.Text(0x00020010, "UI", syntax);
    const TransferSyntax* known = FindTransferSyntax(syntax);
    builder.implicit_vr_ = known != nullptr && known->implicit_vr;
    builder.big_endian_ = known != nullptr && known->big_endian;
    return builder;
  }
  static FileBuilder Bare(bool implicit_vr, bool big_endian) {
    FileBuilder builder;
    builder.implicit_vr_ = implicit_vr;
    builder.big_endian_ = big_endian;
    return builder;
  }

  FileBuilder& Raw(std::string_view bytes) {
    for (const char c : bytes) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  FileBuilder& Raw(std::span<const std::byte> bytes) {
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    return *this;
  }
  FileBuilder& U16(std::uint32_t value) {
    const auto low = static_cast<std::byte>(value & 0xFF);
    const auto high = static_cast<std::byte>(value >> 8 & 0xFF);
    bytes_.push_back(big_endian_ ? high : low);
    bytes_.push_back(big_endian_ ? low : high);
    return *this;
  }
  FileBuilder& U32(std::uint32_t value) {
    return big_endian_ ? U16(value >> 16).U16(value & 0xFFFF) : U16(value & 0xFFFF).U16(value >> 16);
  }
  FileBuilder& Tag(std::uint32_t tag) { return U16(tag >> 16).U16(tag & 0xFFFF); }

  // An element's header with any length, true or not.
  FileBuilder& Header(std::uint32_t tag, std::string_view vr, std::uint32_t length) {
    Tag(tag);
    if (implicit_vr_) return U32(length);
    Raw(vr);
    if (vr == "OB" || vr == "OW" || vr == "SQ" || vr == "UN" || vr == "UT") return U16(0).U32(length);
    return U16(length);
  }
  FileBuilder& Value(std::uint32_t tag, std::string_view vr, std::span<const std::byte> value) {
    return Header(tag, vr, static_cast<std::uint32_t>(value.size())).Raw(value);
  }
  FileBuilder& Text(std::uint32_t tag, std::string_view vr, std::string_view value) {
    std::string padded(value);
    if (padded.size() % 2 != 0) padded += vr == "UI" ? '\0' : ' ';
    return Header(tag, vr, static_cast<std::uint32_t>(padded.size())).Raw(padded);
  }
  FileBuilder& Us(std::uint32_t tag, std::uint32_t value) { return Header(tag, "US", 2).U16(value); }
  FileBuilder& Item(std::uint32_t length) { return Tag(0xFFFEE000).U32(length); }
  FileBuilder& ItemEnd() { return Tag(0xFFFEE00D).U32(0); }
  FileBuilder& SequenceEnd() { return Tag(0xFFFEE0DD).U32(0); }

  // A CT image's pixel module.
  FileBuilder& Pixels(std::uint32_t rows, std::uint32_t columns, std::uint32_t bits_allocated,
                      std::uint32_t bits_stored, std::uint32_t high_bit, bool is_signed,
                      std::string_view frames = "") {
    Us(0x00280002, 1).Text(0x00280004, "CS", "MONOCHROME2");
    if (!frames.empty()) Text(0x00280008, "IS", frames);
    return Us(0x00280010, rows)
        .Us(0x00280011, columns)
        .Us(0x00280100, bits_allocated)
        .Us(0x00280101, bits_stored)
        .Us(0x00280102, high_bit)
        .Us(0x00280103, is_signed ? 1 : 0);
  }

  // Encapsulated pixel data with an empty offset table.
  FileBuilder& Encapsulated(const std::vector<std::vector<std::byte>>& fragments) {
    Header(0x7FE00010, "OB", kUndefined).Item(0);
    for (const auto& fragment : fragments) Item(static_cast<std::uint32_t>(fragment.size())).Raw(fragment);
    return SequenceEnd();
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  bool implicit_vr_ = false;
  bool big_endian_ = false;
};

inline std::vector<std::byte> Bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

}  // namespace tomoserve::dicom::testing
