// What a file must survive before any library sees a byte of it: an iterative tokenizer of our own with
// limits, and the arithmetic of its pixel data. The result says where things lie in the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/transfer_syntax.h"
#include "tomoserve/ipc/v1/dicom.pb.h"

namespace tomoserve::dicom {

struct Limits {
  // Open sequences above an element.
  std::uint32_t nesting = 64;
  // Elements, items and fragments together.
  std::uint32_t elements = 1'000'000;
  // Largest file and largest claimed element, bytes.
  std::uint64_t instance_bytes = 512ull << 20;
  // Rows x Columns x Frames x Samples x bytes.
  std::uint64_t pixel_bytes = 4ull << 30;
  // Deflated Explicit VR Little Endian is read: Inflate has made a plain dataset of it.
  bool deflated = false;
};

// Limits of a lease: 0 takes the default; no instance limit above 2 GiB.
Limits LimitsFrom(const ipc::v1::GatekeeperLimits& message);

// A range of the file.
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// A value of the file that the header pass reads: at the top level (sequence 0), or in item number `item` of
// a sequence at the top level. Tags are group << 16 | element.
struct HeaderElement {
  std::uint32_t tag = 0;
  std::uint32_t sequence = 0;
  std::uint32_t item = 0;
  ByteRange value;
};

// A value of a functional group (PS3.3 C.7.6.16) that the header pass reads.
struct GroupValue {
  static constexpr std::uint32_t kShared = 0xFFFFFFFF;
  // Number of the frame, from 0, or kShared.
  std::uint32_t frame = kShared;
  // Which value: the header pass's own number.
  std::uint32_t field = 0;
  ByteRange value;
};

// Image Pixel module (PS3.3 C.7.6.3), checked: bits_stored fits bits_allocated, high_bit fits both.
struct PixelFormat {
  std::uint32_t rows = 0;
  std::uint32_t columns = 0;
  std::uint32_t frames = 1;
  std::uint32_t samples = 1;
  std::uint32_t bits_allocated = 0;
  std::uint32_t bits_stored = 0;
  std::uint32_t high_bit = 0;
  bool is_signed = false;
  // High Bit contradicted Bits Stored and was replaced by Bits Stored - 1.
  bool high_bit_repaired = false;
};

// Where things lie in a file that the gatekeeper let pass.
struct FileLayout {
  // Declared in the meta header, or guessed from the first element.
  const TransferSyntax* syntax = nullptr;
  bool syntax_guessed = false;
  // Encoding that the dataset really has; files that claim explicit VR and are implicit exist.
  bool implicit_vr = false;
  bool big_endian = false;
  // Values the header pass reads, in file order.
  std::vector<HeaderElement> elements;
  // Values of functional groups that the header pass reads, in file order.
  std::vector<GroupValue> group_values;
  // Items of the Per-Frame Functional Groups Sequence, as far as they hold anything.
  std::uint32_t frame_items = 0;
  // Modality LUT Sequence (0028,3000) has an item: the stored values are no linear measure.
  bool has_modality_lut = false;

  // Pixel Data (7FE0,0010) is there; otherwise nothing below is set.
  bool has_pixels = false;
  PixelFormat pixels;
  // Native pixel data; its words are 16 bit wide in big-endian files with VR OW.
  ByteRange native_pixels;
  bool pixels_are_words = false;
  // Encapsulated pixel data (PS3.5 A.4).
  ByteRange offset_table;
  // Extended Offset Table (7FE0,0001): 64 bit offsets.
  ByteRange extended_offsets;
  std::vector<ByteRange> fragments;
};

// Walks a whole file: with or without preamble and meta header; implicit and explicit little endian, explicit
// big endian; defined and undefined lengths; encapsulated pixel data. No recursion; memory grows with what is
// there, never with what is claimed. Errors (reason code, deciding number or UID):
//   EMPTY_FILE, NOT_DICOM, EXECUTABLE_PREAMBLE, INSTANCE_TOO_LARGE(bytes), TRUNCATED(file offset),
//   MALFORMED(file offset or tag), NESTING_TOO_DEEP(limit), TOO_MANY_ELEMENTS(limit),
//   ELEMENT_TOO_LARGE(claimed bytes), PIXELS_TOO_LARGE(claimed bytes), PIXELS_MISSING(bytes there),
//   UNSUPPORTED_TRANSFER_SYNTAX(uid).
// A file without transfer syntax is read as pydicom would: by the look of its first element. Deflated files
// are refused unless limits.deflated says that their dataset was inflated before.
absl::StatusOr<FileLayout> Inspect(std::span<const std::byte> file, const Limits& limits);

// Of a file that Inspect refuses: what it had found until then. Of a transfer syntax that is not read here
// all but what the pixels are.
FileLayout InspectPart(std::span<const std::byte> file, const Limits& limits);

// The bytes of one encapsulated frame (PS3.5 A.4): the fragments that belong to it, by one fragment a frame,
// by the basic or the extended offset table, or by the codestreams' first markers. MALFORMED if they cannot
// be told apart.
absl::StatusOr<std::span<const ByteRange>> FragmentsOfFrame(std::span<const std::byte> file,
                                                            const FileLayout& layout, std::uint32_t frame);

}  // namespace tomoserve::dicom
