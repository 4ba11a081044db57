#include "dicom/tokenizer.h"

#include <algorithm>
#include <string_view>

#include "dicom/errors.h"
#include "dicom/functional_groups.h"
#include "dicom/tags.h"

namespace tomoserve::dicom {
namespace {

constexpr std::uint32_t kUndefined = 0xFFFFFFFF;
constexpr std::uint32_t kGroupMask = 0xFFFF0000;

constexpr std::uint16_t Vr(char a, char b) {
  return static_cast<std::uint16_t>(static_cast<unsigned char>(a) << 8 | static_cast<unsigned char>(b));
}

constexpr bool IsUpper(std::byte letter) { return letter >= std::byte{'A'} && letter <= std::byte{'Z'}; }

// Value representations with a 16 bit length (PS3.5 table 7.1-2); all others, future ones too, have 32.
constexpr bool HasShortLength(std::uint16_t vr) {
  switch (vr) {
    case Vr('A', 'E'):
    case Vr('A', 'S'):
    case Vr('A', 'T'):
    case Vr('C', 'S'):
    case Vr('D', 'A'):
    case Vr('D', 'S'):
    case Vr('D', 'T'):
    case Vr('F', 'D'):
    case Vr('F', 'L'):
    case Vr('I', 'S'):
    case Vr('L', 'O'):
    case Vr('L', 'T'):
    case Vr('P', 'N'):
    case Vr('S', 'H'):
    case Vr('S', 'L'):
    case Vr('S', 'S'):
    case Vr('S', 'T'):
    case Vr('T', 'M'):
    case Vr('U', 'I'):
    case Vr('U', 'L'):
    case Vr('U', 'S'):
      return true;
    default:
      return false;
  }
}

// Sequences that are walked even where implicit VR hides that they are sequences.
bool IsKnownSequence(std::uint32_t element_tag) {
  return element_tag == tag::kIssuerOfAccessionNumberSequence || element_tag == tag::kContrastAgentSequence ||
         element_tag == tag::kContributingEquipmentSequence ||
         element_tag == tag::kRequestAttributesSequence ||
         element_tag == tag::kRadiopharmaceuticalInformationSequence ||
         element_tag == tag::kModalityLutSequence || IsGroupSequence(element_tag);
}

}  // namespace

std::uint16_t Load16(const std::byte* bytes, bool big_endian) {
  const auto a = static_cast<unsigned>(bytes[0]);
  const auto b = static_cast<unsigned>(bytes[1]);
  return static_cast<std::uint16_t>(big_endian ? a << 8 | b : b << 8 | a);
}

std::uint32_t Load32(const std::byte* bytes, bool big_endian) {
  const std::uint32_t first = Load16(bytes, big_endian);
  const std::uint32_t second = Load16(bytes + 2, big_endian);
  return big_endian ? first << 16 | second : second << 16 | first;
}

Tokenizer::Tokenizer(std::span<const std::byte> file, const Limits& limits, TokenSink& sink)
    : file_(file), limits_(limits), sink_(sink) {}

absl::Status Tokenizer::Broken(std::string_view text) const {
  // What reaches over the end of the file was cut off; what only reaches over its parent is wrong.
  if (End() == file_.size()) return Refuse("TRUNCATED", position_, "the file ends inside an element");
  return Refuse("MALFORMED", position_, text);
}

absl::Status Tokenizer::Count() {
  if (++elements_ > limits_.elements) {
    return Refuse("TOO_MANY_ELEMENTS", limits_.elements, "the file has more elements than the limit");
  }
  return absl::OkStatus();
}

// `position_` stands behind the element's header.
absl::Status Tokenizer::CheckLength(std::uint64_t length) const {
  if (length > limits_.instance_bytes) {
    return Refuse("ELEMENT_TOO_LARGE", length, "an element claims more bytes than the limit");
  }
  if (length > End() - position_) return Broken("an element is longer than the item around it");
  return absl::OkStatus();
}

absl::Status Tokenizer::OpenSequence(std::uint32_t sequence_tag, bool defined, std::uint64_t length,
                                     bool implicit_vr) {
  if (sequences_ >= limits_.nesting) {
    return Refuse("NESTING_TOO_DEEP", limits_.nesting, "sequences are nested deeper than the limit");
  }
  ++sequences_;
  open_.push_back(
      {Kind::kSequence, defined ? position_ + length : End(), defined, implicit_vr, sequence_tag, 0});
  return absl::OkStatus();
}

void Tokenizer::Close() {
  if (open_.back().kind == Kind::kSequence) --sequences_;
  if (open_.back().kind == Kind::kItem) path_.pop_back();
  open_.pop_back();
}

bool Tokenizer::RestIsZero() const {
  return std::all_of(file_.begin() + static_cast<std::ptrdiff_t>(position_), file_.end(),
                     [](std::byte value) { return value == std::byte{0}; });
}

absl::StatusOr<std::uint64_t> Tokenizer::Run(std::uint64_t begin, Encoding encoding,
                                             std::optional<std::uint16_t> only_group) {
  position_ = begin;
  encoding_ = encoding;
  open_.clear();
  path_.clear();
  sequences_ = 0;
  while (true) {
    while (!open_.empty() && open_.back().defined && open_.back().end == position_) Close();
    if (open_.empty() && position_ == file_.size()) return position_;
    if (End() - position_ < 8) {
      if (open_.empty() && pixels_seen_ && RestIsZero()) return position_;
      return Broken("an item ends inside an element's header");
    }
    const std::byte* header = file_.data() + position_;
    const std::uint32_t next = static_cast<std::uint32_t>(Load16(header, encoding_.big_endian)) << 16 |
                               Load16(header + 2, encoding_.big_endian);
    if (only_group && open_.empty() && next >> 16 != *only_group) return position_;
    if (next == 0 && open_.empty() && pixels_seen_ && RestIsZero()) return position_;
    TS_RETURN_IF_ERROR(Count());
    if ((next & kGroupMask) == (tag::kItem & kGroupMask)) {
      TS_RETURN_IF_ERROR(ReadDelimiter(next, Load32(header + 4, encoding_.big_endian)));
    } else if (!open_.empty() && open_.back().kind != Kind::kItem) {
      return Refuse("MALFORMED", position_, "an element stands where an item should");
    } else {
      TS_RETURN_IF_ERROR(ReadElement(next));
    }
  }
}

absl::Status Tokenizer::ReadDelimiter(std::uint32_t delimiter, std::uint32_t length) {
  const std::uint64_t at = position_;
  position_ += 8;
  if (delimiter == tag::kItem) {
    if (open_.empty() || open_.back().kind == Kind::kItem) {
      return Refuse("MALFORMED", at, "an item stands outside a sequence");
    }
    const bool defined = length != kUndefined;
    if (defined) TS_RETURN_IF_ERROR(CheckLength(length));
    Open& parent = open_.back();
    if (parent.kind == Kind::kFragments) {
      if (!defined) return Refuse("MALFORMED", at, "a fragment of pixel data has no length");
      TS_RETURN_IF_ERROR(sink_.Fragment(path_, parent.tag, parent.items++, {position_, length}));
      position_ += length;
      return absl::OkStatus();
    }
    const Step step{parent.tag, parent.items++};
    open_.push_back(
        {Kind::kItem, defined ? position_ + length : parent.end, defined, parent.implicit_vr, parent.tag, 0});
    path_.push_back(step);
    sink_.Item(path_);
    return absl::OkStatus();
  }
  if (delimiter == tag::kItemEnd && !open_.empty() && open_.back().kind == Kind::kItem &&
      !open_.back().defined) {
    Close();
    return absl::OkStatus();
  }
  if (delimiter == tag::kSequenceEnd && !open_.empty() && open_.back().kind != Kind::kItem &&
      !open_.back().defined) {
    Close();
    return absl::OkStatus();
  }
  // Superfluous delimiters behind defined lengths are common; a missing one is not survivable.
  const bool superfluous = open_.empty() || open_.back().defined || open_.back().kind == Kind::kSequence;
  if ((delimiter == tag::kItemEnd || delimiter == tag::kSequenceEnd) && length == 0 && superfluous) {
    return absl::OkStatus();
  }
  return Refuse("MALFORMED", at, "a delimiter stands where none can");
}

absl::Status Tokenizer::ReadElement(std::uint32_t element_tag) {
  const std::byte* header = file_.data() + position_;
  bool implicit_vr = ImplicitVr();
  // Files exist whose explicit data has implicit elements in between.
  if (!implicit_vr && (!IsUpper(header[4]) || !IsUpper(header[5]))) implicit_vr = true;
  std::uint16_t vr = 0;
  std::uint32_t length = 0;
  if (implicit_vr) {
    length = Load32(header + 4, encoding_.big_endian);
    position_ += 8;
  } else {
    vr = Vr(static_cast<char>(header[4]), static_cast<char>(header[5]));
    if (HasShortLength(vr)) {
      length = Load16(header + 6, encoding_.big_endian);
      position_ += 8;
    } else {
      if (End() - position_ < 12) return Broken("an item ends inside an element's header");
      length = Load32(header + 8, encoding_.big_endian);
      position_ += 12;
    }
  }
  if (element_tag == tag::kPixelData && open_.empty()) pixels_seen_ = true;
  if (length == kUndefined) {
    const bool is_binary = vr == Vr('O', 'B') || vr == Vr('O', 'W');
    if (element_tag == tag::kPixelData || is_binary) {
      open_.push_back({Kind::kFragments, End(), false, implicit_vr, element_tag, 0});
      return absl::OkStatus();
    }
    if (!implicit_vr && vr != Vr('S', 'Q') && vr != Vr('U', 'N')) {
      return Refuse("MALFORMED", TagName(element_tag), "an element without a length is no sequence");
    }
    // PS3.5 6.2.2 note 4: what VR UN with undefined length holds is implicit.
    return OpenSequence(element_tag, false, 0, implicit_vr || vr == Vr('U', 'N'));
  }
  TS_RETURN_IF_ERROR(CheckLength(length));
  // VR UN hides a sequence too, an implicit little endian one (PS3.5 6.2.2).
  const bool hides = implicit_vr || (vr == Vr('U', 'N') && !encoding_.big_endian);
  const bool is_sequence = hides ? IsKnownSequence(element_tag) : vr == Vr('S', 'Q');
  if (is_sequence) return OpenSequence(element_tag, true, length, hides);
  TS_RETURN_IF_ERROR(sink_.Element(path_, element_tag, {position_, length}, vr == Vr('O', 'W')));
  position_ += length;
  return absl::OkStatus();
}

}  // namespace tomoserve::dicom
