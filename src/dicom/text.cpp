#include "dicom/text.h"

#include <algorithm>
#include <cstdint>

namespace tomoserve::dicom {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr char kEscape = '\x1B';

bool IsPlainAscii(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80 && c != kEscape; });
}

// Bytes of the well-formed UTF-8 sequence at the start (Unicode table 3-7); 0 if there is none.
std::size_t SequenceLength(std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const auto trail = [&](std::size_t i, unsigned low, unsigned high) {
    return i < bytes.size() && at(i) >= low && at(i) <= high;
  };
  const unsigned lead = at(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return trail(1, 0x80, 0xBF) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    const unsigned low = lead == 0xE0 ? 0xA0 : 0x80;
    const unsigned high = lead == 0xED ? 0x9F : 0xBF;
    return trail(1, low, high) && trail(2, 0x80, 0xBF) ? 3 : 0;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    const unsigned low = lead == 0xF0 ? 0x90 : 0x80;
    const unsigned high = lead == 0xF4 ? 0x8F : 0xBF;
    return trail(1, low, high) && trail(2, 0x80, 0xBF) && trail(3, 0x80, 0xBF) ? 4 : 0;
  }
  return 0;
}

// C0 and C1 controls and DEL. No character set of DICOM has C1 (PS3.5 6.1.1): such bytes come from text in a
// code page, or in UTF-8, that was declared as ISO 8859.
bool IsControl(std::string_view bytes, std::size_t length) {
  const auto lead = static_cast<unsigned char>(bytes[0]);
  if (length == 1) return lead < 0x20 || lead == 0x7F;
  return length == 2 && lead == 0xC2 && static_cast<unsigned char>(bytes[1]) < 0xA0;
}

std::string FromLatin1(std::string_view bytes) {
  std::string utf8;
  utf8.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto value = static_cast<unsigned char>(c);
    if (value < 0x80) {
      utf8.push_back(c);
    } else {
      utf8.push_back(static_cast<char>(0xC0 | value >> 6));
      utf8.push_back(static_cast<char>(0x80 | (value & 0x3F)));
    }
  }
  return utf8;
}

}  // namespace

Text TextDecoder::Decode(std::string_view bytes, std::string_view delimiters) {
  if (IsPlainAscii(bytes)) return CleanUtf8(bytes);
  if (!set_ || !set_->declared) {
    Text text = CleanUtf8(bytes);
    if (text.repaired) text = CleanUtf8(FromLatin1(bytes));
    text.repaired = true;
    return text;
  }
  const std::string utf8 = converters_.Convert(bytes, *set_, delimiters);
  Text text = CleanUtf8(utf8);
  text.repaired = text.repaired || utf8.find(kReplacement) != std::string::npos;
  return text;
}

Text CleanUtf8(std::string_view bytes) {
  Text text;
  text.utf8.reserve(bytes.size());
  while (!bytes.empty()) {
    const std::size_t length = SequenceLength(bytes);
    if (length == 0 || IsControl(bytes, length)) {
      text.utf8 += kReplacement;
      text.repaired = true;
      bytes.remove_prefix(std::max<std::size_t>(length, 1));
    } else {
      text.utf8 += bytes.substr(0, length);
      bytes.remove_prefix(length);
    }
  }
  return text;
}

std::string_view CutUtf8(std::string_view utf8, std::size_t bytes) {
  if (utf8.size() <= bytes) return utf8;
  while (bytes > 0 && (static_cast<unsigned char>(utf8[bytes]) & 0xC0) == 0x80) --bytes;
  return utf8.substr(0, bytes);
}

}  // namespace tomoserve::dicom
