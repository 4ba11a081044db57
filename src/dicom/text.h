// Text of a DICOM file as valid UTF-8 (PS3.3 C.12.1.1.2, PS3.5 6.1).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "dicom/charset.h"

namespace tomoserve::dicom {

struct Text {
  std::string utf8;
  // Something could not be converted (U+FFFD stands there), or the character set was not declared.
  bool repaired = false;
};

// Valid UTF-8: each broken byte sequence and control character becomes U+FFFD.
Text CleanUtf8(std::string_view bytes);

// At most `bytes` bytes, cut between characters.
std::string_view CutUtf8(std::string_view utf8, std::size_t bytes);

// Converts by one Specific Character Set value. Confined to one thread.
class TextDecoder {
 public:
  explicit TextDecoder(std::string_view specific_character_set)
      : set_(ParseCharacterSet(specific_character_set)) {}

  // Text outside ASCII without a declared (or with an unknown) set is read as UTF-8 if it is that, else as
  // ISO 8859-1; both count as repaired. `delimiters`: characters that reset code extensions, e.g. "\\^=" for
  // names.
  Text Decode(std::string_view bytes, std::string_view delimiters);

 private:
  std::optional<CharacterSet> set_;
  CharsetConverters converters_;
};

}  // namespace tomoserve::dicom
