#include "dicom/charset.h"

#include <iconv.h>

#include <cerrno>
#include <charconv>
#include <cstdint>

#include "dicom/values.h"

namespace tomoserve::dicom {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr char kEscape = '\x1B';

// Registration number of ISO-IR to the set.
struct Registration {
  int number;
  CodedSet set;
};
constexpr std::array kRegistrations = {
    Registration{6, CodedSet::kAscii},      Registration{100, CodedSet::kLatin1},
    Registration{101, CodedSet::kLatin2},   Registration{109, CodedSet::kLatin3},
    Registration{110, CodedSet::kLatin4},   Registration{144, CodedSet::kCyrillic},
    Registration{127, CodedSet::kArabic},   Registration{126, CodedSet::kGreek},
    Registration{138, CodedSet::kHebrew},   Registration{148, CodedSet::kLatin5},
    Registration{203, CodedSet::kLatin9},   Registration{166, CodedSet::kThai},
    Registration{13, CodedSet::kKatakana},  Registration{87, CodedSet::kJisX0208},
    Registration{159, CodedSet::kJisX0212}, Registration{149, CodedSet::kKsX1001},
    Registration{58, CodedSet::kGb2312},    Registration{192, CodedSet::kUtf8},
};

// What follows ESC (PS3.3 tables C.12-3 and C.12-4).
struct EscapeSequence {
  std::string_view bytes;
  bool is_g1;
  CodedSet set;
};
constexpr std::array kEscapes = {
    EscapeSequence{"(B", false, CodedSet::kAscii},    EscapeSequence{"(J", false, CodedSet::kAscii},
    EscapeSequence{")I", true, CodedSet::kKatakana},  EscapeSequence{"-A", true, CodedSet::kLatin1},
    EscapeSequence{"-B", true, CodedSet::kLatin2},    EscapeSequence{"-C", true, CodedSet::kLatin3},
    EscapeSequence{"-D", true, CodedSet::kLatin4},    EscapeSequence{"-L", true, CodedSet::kCyrillic},
    EscapeSequence{"-G", true, CodedSet::kArabic},    EscapeSequence{"-F", true, CodedSet::kGreek},
    EscapeSequence{"-H", true, CodedSet::kHebrew},    EscapeSequence{"-M", true, CodedSet::kLatin5},
    EscapeSequence{"-b", true, CodedSet::kLatin9},    EscapeSequence{"-T", true, CodedSet::kThai},
    EscapeSequence{"$B", false, CodedSet::kJisX0208}, EscapeSequence{"$(D", false, CodedSet::kJisX0212},
    EscapeSequence{"$)C", true, CodedSet::kKsX1001},  EscapeSequence{"$)A", true, CodedSet::kGb2312},
};

const char* IconvName(CodedSet set) {
  switch (set) {
    case CodedSet::kLatin1:
      return "ISO-8859-1";
    case CodedSet::kLatin2:
      return "ISO-8859-2";
    case CodedSet::kLatin3:
      return "ISO-8859-3";
    case CodedSet::kLatin4:
      return "ISO-8859-4";
    case CodedSet::kCyrillic:
      return "ISO-8859-5";
    case CodedSet::kArabic:
      return "ISO-8859-6";
    case CodedSet::kGreek:
      return "ISO-8859-7";
    case CodedSet::kHebrew:
      return "ISO-8859-8";
    case CodedSet::kLatin5:
      return "ISO-8859-9";
    case CodedSet::kLatin9:
      return "ISO-8859-15";
    case CodedSet::kThai:
      return "ISO-8859-11";
    case CodedSet::kJisX0208:
    case CodedSet::kJisX0212:
      return "EUC-JP";
    case CodedSet::kKsX1001:
      return "EUC-KR";
    case CodedSet::kGb2312:
      return "GB2312";
    case CodedSet::kGb18030:
      return "GB18030";
    case CodedSet::kGbk:
      return "GBK";
    default:
      return nullptr;  // converted without iconv
  }
}

bool IsUpperHalf(char c) { return static_cast<unsigned char>(c) >= 0x80; }
bool IsTwoByteG0(CodedSet set) { return set == CodedSet::kJisX0208 || set == CodedSet::kJisX0212; }

// Sets of a whole value, without G0 and G1.
bool IsWholeSet(CodedSet set) {
  return set == CodedSet::kUtf8 || set == CodedSet::kGb18030 || set == CodedSet::kGbk;
}

std::optional<CodedSet> SetOfTerm(std::string_view term) {
  if (term.empty()) return CodedSet::kAscii;
  if (term == "GB18030") return CodedSet::kGb18030;
  if (term == "GBK") return CodedSet::kGbk;
  // "ISO_IR 100", "ISO 2022 IR 100", and the misspellings that occur: "ISO IR 100", "ISO-IR 100",
  // "ISO_IR_100", "ISO_2022_IR_100".
  if (!term.starts_with("ISO")) return std::nullopt;
  const std::size_t gap = term.find_last_of(" _-");
  if (gap == std::string_view::npos || !term.substr(0, gap).ends_with("IR")) return std::nullopt;
  int number = 0;
  const auto [end, error] = std::from_chars(term.data() + gap + 1, term.data() + term.size(), number);
  if (error != std::errc() || end != term.data() + term.size()) return std::nullopt;
  for (const Registration& registration : kRegistrations) {
    if (registration.number == number) return registration.set;
  }
  return std::nullopt;
}

// U+FF61 is the katakana of 0xA1.
std::string Katakana(std::string_view bytes) {
  std::string utf8;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0xA1 || byte > 0xDF) {
      utf8 += kReplacement;
      continue;
    }
    const std::uint32_t code = 0xFF61u + byte - 0xA1u;
    utf8 += static_cast<char>(0xE0 | code >> 12);
    utf8 += static_cast<char>(0x80 | (code >> 6 & 0x3F));
    utf8 += static_cast<char>(0x80 | (code & 0x3F));
  }
  return utf8;
}

std::string Replacements(std::size_t count) {
  std::string utf8;
  for (std::size_t i = 0; i < count; ++i) utf8 += kReplacement;
  return utf8;
}

// Two-byte sets of G0 as EUC-JP: both bytes in the upper half, JIS X 0212 behind a single shift.
std::string AsEucJp(std::string_view bytes, CodedSet set) {
  std::string euc;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (set == CodedSet::kJisX0212 && i % 2 == 0) euc += '\x8F';
    euc += static_cast<char>(static_cast<unsigned char>(bytes[i]) | 0x80);
  }
  return euc;
}

}  // namespace

class CharsetConverters::Iconv {
 public:
  explicit Iconv(const char* from) : descriptor_(::iconv_open("UTF-8", from)) {}
  ~Iconv() {
    if (usable()) ::iconv_close(descriptor_);
  }
  Iconv(const Iconv&) = delete;
  Iconv& operator=(const Iconv&) = delete;

  // NOLINTNEXTLINE: iconv_open's own error value.
  bool usable() const { return descriptor_ != reinterpret_cast<iconv_t>(-1); }

  std::string Convert(std::string_view bytes) {
    if (!usable()) return Replacements(bytes.size());
    std::string utf8;
    std::array<char, 256> buffer{};
    // iconv's interface is older than const.
    char* in = const_cast<char*>(bytes.data());
    std::size_t left = bytes.size();
    ::iconv(descriptor_, nullptr, nullptr, nullptr, nullptr);
    while (left > 0) {
      char* out = buffer.data();
      std::size_t room = buffer.size();
      const std::size_t result = ::iconv(descriptor_, &in, &left, &out, &room);
      utf8.append(buffer.data(), buffer.size() - room);
      if (result == static_cast<std::size_t>(-1) && errno != E2BIG) {
        utf8 += kReplacement;
        ++in;
        --left;
        ::iconv(descriptor_, nullptr, nullptr, nullptr, nullptr);
      }
    }
    return utf8;
  }

 private:
  iconv_t descriptor_;
};

CharsetConverters::CharsetConverters() = default;
CharsetConverters::~CharsetConverters() = default;

CharsetConverters::Iconv& CharsetConverters::Open(CodedSet set) {
  auto& converter = converters_[static_cast<std::size_t>(set)];
  if (!converter) converter = std::make_unique<Iconv>(IconvName(set));
  return *converter;
}

std::vector<std::string> CharsetConverters::OpenAll() {
  std::vector<std::string> missing;
  for (std::size_t i = 0; i < static_cast<std::size_t>(CodedSet::kCount); ++i) {
    const auto set = static_cast<CodedSet>(i);
    if (IconvName(set) == nullptr) continue;
    if (!Open(set).usable()) missing.emplace_back(IconvName(set));
    // Whole and broken text once: nothing is left to be loaded later.
    Open(set).Convert("A\xC4\xE4\xFF");
  }
  return missing;
}

std::string CharsetConverters::ConvertRun(std::string_view bytes, CodedSet set) {
  if (bytes.empty()) return {};
  switch (set) {
    case CodedSet::kAscii:
    case CodedSet::kUtf8:
      return std::string(bytes);
    case CodedSet::kKatakana:
      return Katakana(bytes);
    case CodedSet::kNone:
    case CodedSet::kCount:
      return Replacements(bytes.size());
    case CodedSet::kJisX0208:
    case CodedSet::kJisX0212:
      return Open(set).Convert(AsEucJp(bytes, set));
    default:
      return Open(set).Convert(bytes);
  }
}

std::string CharsetConverters::Convert(std::string_view bytes, const CharacterSet& set,
                                       std::string_view delimiters) {
  if (IsWholeSet(set.first)) return ConvertRun(bytes, set.first);
  const CodedSet first_g1 =
      set.first == CodedSet::kAscii || IsTwoByteG0(set.first) ? CodedSet::kNone : set.first;
  CodedSet g0 = CodedSet::kAscii;
  CodedSet g1 = first_g1;
  std::string utf8;
  while (!bytes.empty()) {
    if (bytes[0] == kEscape && set.code_extensions) {
      const EscapeSequence* found = nullptr;
      for (const EscapeSequence& escape : kEscapes) {
        if (bytes.substr(1).starts_with(escape.bytes)) found = &escape;
      }
      if (found != nullptr) {
        (found->is_g1 ? g1 : g0) = found->set;
        bytes.remove_prefix(1 + found->bytes.size());
        continue;
      }
    }
    // A run of one half of the code table, up to the next escape; a delimiter is a run of its own.
    const bool upper = IsUpperHalf(bytes[0]);
    std::size_t length = 1;
    const bool is_delimiter =
        !upper && !IsTwoByteG0(g0) && delimiters.find(bytes[0]) != std::string_view::npos;
    if (!is_delimiter) {
      while (length < bytes.size() && IsUpperHalf(bytes[length]) == upper && bytes[length] != kEscape &&
             (upper || IsTwoByteG0(g0) || delimiters.find(bytes[length]) == std::string_view::npos)) {
        ++length;
      }
    }
    utf8 += ConvertRun(bytes.substr(0, length), upper ? g1 : g0);
    if (is_delimiter) {
      g0 = CodedSet::kAscii;
      g1 = first_g1;
    }
    bytes.remove_prefix(length);
  }
  return utf8;
}

std::optional<CharacterSet> ParseCharacterSet(std::string_view specific_character_set) {
  CharacterSet set;
  const auto terms = SplitValues(specific_character_set);
  // Several sets mean code extensions, also where the terms are those of single sets (pydicom reads it so).
  set.code_extensions = terms.size() > 1;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    const std::string_view term = Trim(terms[i]);
    const auto coded = SetOfTerm(term);
    if (i == 0) {
      if (!coded) return std::nullopt;
      set.first = *coded;
    }
    if (term.find("2022") != std::string_view::npos) set.code_extensions = true;
  }
  set.declared = set.first != CodedSet::kAscii || set.code_extensions;
  return set;
}

}  // namespace tomoserve::dicom
