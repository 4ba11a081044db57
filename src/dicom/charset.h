// Bytes of the character sets of DICOM (PS3.3 C.12.1.1.2) to UTF-8, with code extensions (ISO 2022, PS3.5
// 6.1.2.5), by the C library's iconv. DCMTK 3.6.7 knows no Japanese kanji over glibc.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tomoserve::dicom {

enum class CodedSet {
  kNone,  // G1 before anything was invoked
  kAscii,
  kLatin1,
  kLatin2,
  kLatin3,
  kLatin4,
  kCyrillic,
  kArabic,
  kGreek,
  kHebrew,
  kLatin5,
  kLatin9,
  kThai,
  kKatakana,  // JIS X 0201, upper half
  kJisX0208,
  kJisX0212,
  kKsX1001,
  kGb2312,
  kUtf8,
  kGb18030,
  kGbk,
  kCount
};

// A parsed Specific Character Set (0008,0005).
struct CharacterSet {
  CodedSet first = CodedSet::kAscii;
  bool declared = false;         // something other than the default repertoire
  bool code_extensions = false;  // ISO 2022 escape sequences may follow
};

// None if the first value is no defined term.
std::optional<CharacterSet> ParseCharacterSet(std::string_view specific_character_set);

// Open iconv descriptors, one for each set that was needed. Confined to one thread.
class CharsetConverters {
 public:
  CharsetConverters();
  ~CharsetConverters();
  CharsetConverters(const CharsetConverters&) = delete;
  CharsetConverters& operator=(const CharsetConverters&) = delete;

  // Opens and tries every converter; names those that the C library lacks.
  std::vector<std::string> OpenAll();

  // Converts one value; bytes without meaning become U+FFFD. At `delimiters` the code extensions fall back to
  // the first set.
  std::string Convert(std::string_view bytes, const CharacterSet& set, std::string_view delimiters);

 private:
  class Iconv;
  std::string ConvertRun(std::string_view bytes, CodedSet set);
  Iconv& Open(CodedSet set);

  std::array<std::unique_ptr<Iconv>, static_cast<std::size_t>(CodedSet::kCount)> converters_;
};

}  // namespace tomoserve::dicom
