#include "dicom/field_reader.h"

#include <algorithm>

#include "dicom/errors.h"
#include "dicom/tags.h"

namespace tomoserve::dicom {
namespace {

// Texts, values and repairs of a header without frames must fit one record of 64 KiB.
constexpr std::size_t kMaxTextBytes = 1024;
constexpr std::size_t kMaxCodeBytes = 64;  // of a list
constexpr std::size_t kMaxValues = 16;
constexpr int kMaxRepairs = 32;

constexpr std::string_view kNameDelimiters = "\\^=";

std::string_view First(std::string_view raw) { return Trim(raw.substr(0, raw.find('\\'))); }

// Some writers leave garbage behind the NUL that pads a UID.
std::string_view CodePart(std::string_view raw) {
  raw = Trim(raw);
  return raw.substr(0, raw.find('\0'));
}

}  // namespace

void FieldReader::Repair(std::string_view code, std::uint32_t element, std::string_view text) {
  if (header_.repairs_size() >= kMaxRepairs) return;
  const std::string value = TagName(element);
  for (const ipc::v1::Refusal& repair : header_.repairs()) {
    if (repair.code() == code && repair.value() == value) return;
  }
  ipc::v1::Refusal& repair = *header_.add_repairs();
  repair.set_code(std::string(code));
  repair.set_value(value);
  repair.set_text(std::string(text));
}

std::string FieldReader::Text(std::uint32_t element, std::uint32_t sequence, std::uint32_t item) {
  return TextOf(element, values_.Raw(element, sequence, item).value_or(""));
}

std::string FieldReader::Name(std::uint32_t element) {
  return TextOf(element, values_.Raw(element).value_or(""), kNameDelimiters);
}

std::string FieldReader::TextOf(std::uint32_t element, std::string_view raw, std::string_view delimiters) {
  return Checked(element, decoder_.Decode(Trim(raw), delimiters), kMaxTextBytes);
}

std::string FieldReader::Code(std::uint32_t element, std::uint32_t sequence, std::uint32_t item) {
  return CodeOf(element, values_.Raw(element, sequence, item).value_or(""));
}

std::string FieldReader::CodeOf(std::uint32_t element, std::string_view raw) {
  return Checked(element, CleanUtf8(CodePart(raw)), kMaxTextBytes);
}

std::vector<std::string> FieldReader::Codes(std::uint32_t element) {
  return CodesOf(element, values_.Raw(element).value_or(""));
}

std::vector<std::string> FieldReader::CodesOf(std::uint32_t element, std::string_view raw) {
  std::vector<std::string> codes;
  for (const std::string_view value : SplitValues(Trim(raw))) {
    if (codes.size() == kMaxValues) break;
    codes.push_back(Checked(element, CleanUtf8(CodePart(value)), kMaxCodeBytes));
  }
  return codes;
}

std::optional<std::int32_t> FieldReader::Integer(std::uint32_t element) {
  const std::string_view first = First(values_.Raw(element).value_or(""));
  if (first.empty()) return std::nullopt;
  const auto value = ParseInteger(first);
  if (!value) Repair("MALFORMED_VALUE", element, "a number is malformed and was left out");
  return value;
}

std::optional<double> FieldReader::Decimal(std::uint32_t element, std::uint32_t sequence,
                                           std::uint32_t item) {
  return DecimalOf(element, values_.Raw(element, sequence, item).value_or(""));
}

std::optional<double> FieldReader::DecimalOf(std::uint32_t element, std::string_view raw) {
  const std::string_view first = First(raw);
  if (first.empty()) return std::nullopt;
  const auto value = ParseDecimal(first);
  if (!value) Repair("MALFORMED_VALUE", element, "a number is malformed and was left out");
  return value;
}

std::vector<double> FieldReader::Decimals(std::uint32_t element, std::size_t count) {
  return DecimalsOf(element, values_.Raw(element).value_or(""), count);
}

std::vector<double> FieldReader::DecimalsOf(std::uint32_t element, std::string_view raw, std::size_t count) {
  std::vector<double> numbers;
  raw = Trim(raw);
  if (raw.empty()) return numbers;
  for (const std::string_view text : SplitValues(raw)) {
    const auto number = ParseDecimal(text);
    if (!number || numbers.size() == count) {
      numbers.clear();
      break;
    }
    numbers.push_back(*number);
  }
  if (numbers.size() != count) {
    Repair("MALFORMED_VALUE", element, "a list of numbers is malformed and was left out");
    numbers.clear();
  }
  return numbers;
}

std::vector<double> FieldReader::DoublesOf(std::uint32_t element, std::string_view raw, std::size_t count) {
  std::vector<double> numbers;
  if (raw.empty()) return numbers;
  if (raw.size() == count * sizeof(double)) {
    for (std::size_t i = 0; i < count; ++i) {
      if (const auto number = values_.DoubleOf(raw.substr(i * sizeof(double)))) numbers.push_back(*number);
    }
  }
  if (numbers.size() != count) {
    Repair("MALFORMED_VALUE", element, "a list of numbers is malformed and was left out");
    numbers.clear();
  }
  return numbers;
}

std::string FieldReader::Checked(std::uint32_t element, const dicom::Text& text, std::size_t max_bytes) {
  if (text.repaired) {
    Repair("CHARSET_REPAIRED", element, "text did not fit its character set and was repaired");
  }
  const std::string_view cut = CutUtf8(text.utf8, max_bytes);
  if (cut.size() < text.utf8.size())
    Repair("TEXT_CUT", element, "text was longer than any valid one and was cut");
  return std::string(cut);
}

}  // namespace tomoserve::dicom
