// The iterative walk over a file's elements (PS3.5 section 7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/dicom/gatekeeper.h"

namespace tomoserve::dicom {

std::uint16_t Load16(const std::byte* bytes, bool big_endian);
std::uint32_t Load32(const std::byte* bytes, bool big_endian);

struct Encoding {
  bool implicit_vr = false;
  bool big_endian = false;
};

// One item of a sequence above an element.
struct Step {
  std::uint32_t sequence = 0;
  std::uint32_t item = 0;
};

// Told what the walk meets, in file order; a bad status ends the walk.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  // An element with a value (no sequence). `path`: outermost item first. `is_words`: explicit VR OW.
  virtual absl::Status Element(std::span<const Step> path, std::uint32_t tag, ByteRange value,
                               bool is_words) = 0;
  // An item of a sequence begins, `path`'s last one; it may be empty.
  virtual void Item(std::span<const Step> path) { (void)path; }
  // One item of encapsulated data of `tag`; number 0 is the basic offset table.
  virtual absl::Status Fragment(std::span<const Step> path, std::uint32_t tag, std::uint32_t number,
                                ByteRange value) = 0;
};

// Confined to one call sequence; counts elements over all runs.
class Tokenizer {
 public:
  Tokenizer(std::span<const std::byte> file, const Limits& limits, TokenSink& sink);

  // Walks from `begin` to the end of the file, or to the first top-level element outside `only_group`. Gives
  // the offset where it stopped. Zero bytes after the pixel data are padding. Defined-length sequences of
  // implicit data are opaque unless the header pass reads them.
  absl::StatusOr<std::uint64_t> Run(std::uint64_t begin, Encoding encoding,
                                    std::optional<std::uint16_t> only_group = std::nullopt);

 private:
  enum class Kind { kSequence, kItem, kFragments };
  struct Open {
    Kind kind = Kind::kSequence;
    std::uint64_t end = 0;  // its own, or its parent's where the length is undefined
    bool defined = false;
    bool implicit_vr = false;
    std::uint32_t tag = 0;    // of a sequence or of encapsulated data
    std::uint32_t items = 0;  // seen so far
  };

  std::uint64_t End() const { return open_.empty() ? file_.size() : open_.back().end; }
  bool ImplicitVr() const { return open_.empty() ? encoding_.implicit_vr : open_.back().implicit_vr; }
  absl::Status Count();
  absl::Status CheckLength(std::uint64_t length) const;
  absl::Status Broken(std::string_view text) const;
  absl::Status ReadElement(std::uint32_t element_tag);
  absl::Status ReadDelimiter(std::uint32_t delimiter, std::uint32_t length);
  absl::Status OpenSequence(std::uint32_t sequence_tag, bool defined, std::uint64_t length, bool implicit_vr);
  void Close();
  bool RestIsZero() const;

  std::span<const std::byte> file_;
  const Limits limits_;
  TokenSink& sink_;
  Encoding encoding_;
  std::uint64_t position_ = 0;
  std::uint32_t elements_ = 0;
  std::uint32_t sequences_ = 0;
  bool pixels_seen_ = false;
  std::vector<Open> open_;
  std::vector<Step> path_;
};

}  // namespace tomoserve::dicom
