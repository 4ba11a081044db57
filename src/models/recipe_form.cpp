// What holds for every field of a recipe, whatever it means: checked by reflection, so that a field that is
// added to the schema is covered.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <cmath>
#include <cstddef>
#include <vector>

#include "models/recipe_checks.h"

namespace tomoserve::models {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::size_t kMaxTextBytes = 4096;
constexpr int kMaxEntries = 65535;

// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. Control characters (below U+0020,
// U+007F) are refused as well: DICOM text values cannot hold them.
bool IsPlainUtf8(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i++]);
    if (lead < 0x80) {
      if (lead < 0x20 || lead == 0x7F) return false;
      continue;
    }
    const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4) return false;
    unsigned code = lead & (0x3FU >> more);
    for (int n = 0; n < more; ++n) {
      if (i == text.size()) return false;
      const auto next = static_cast<unsigned char>(text[i++]);
      if ((next & 0xC0U) != 0x80) return false;
      code = code << 6 | (next & 0x3FU);
    }
    constexpr unsigned kLowest[] = {0, 0x80, 0x800, 0x10000};
    if (code < kLowest[more] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) return false;
  }
  return true;
}

absl::Status CheckMessage(const Message& message, const std::string& prefix);

// One value; `index` is -1 where the field is not a list.
absl::Status CheckValue(const Message& message, const FieldDescriptor* field, int index,
                        const std::string& path) {
  const Reflection* reflection = message.GetReflection();
  const bool list = index >= 0;
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double number =
          list ? reflection->GetRepeatedDouble(message, field, index) : reflection->GetDouble(message, field);
      if (!std::isfinite(number)) return Invalid(path, "the number is not finite");
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_STRING: {
      const std::string text =
          list ? reflection->GetRepeatedString(message, field, index) : reflection->GetString(message, field);
      if (text.size() > kMaxTextBytes)
        return Invalid(path, absl::StrCat("longer than ", kMaxTextBytes, " bytes"));
      if (!IsPlainUtf8(text)) return Invalid(path, "the text is not plain UTF-8");
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = list ? reflection->GetRepeatedEnumValue(message, field, index)
                              : reflection->GetEnumValue(message, field);
      if (field->enum_type()->FindValueByNumber(number) == nullptr) {
        return Invalid(path, absl::StrCat("the value ", number, " is not known"));
      }
      return absl::OkStatus();
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return CheckMessage(list ? reflection->GetRepeatedMessage(message, field, index)
                               : reflection->GetMessage(message, field),
                          path);
    default:
      return absl::OkStatus();
  }
}

absl::Status CheckMessage(const Message& message, const std::string& prefix) {
  const Reflection* reflection = message.GetReflection();
  if (!reflection->GetUnknownFields(message).empty()) {
    return Invalid(prefix.empty() ? "recipe" : prefix, "carries fields that this version does not know");
  }
  std::vector<const FieldDescriptor*> fields;
  reflection->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const std::string path = prefix.empty() ? field->name() : absl::StrCat(prefix, ".", field->name());
    if (!field->is_repeated()) {
      TS_RETURN_IF_ERROR(CheckValue(message, field, -1, path));
      continue;
    }
    const int entries = reflection->FieldSize(message, field);
    if (entries > kMaxEntries) return Invalid(path, absl::StrCat("more than ", kMaxEntries, " entries"));
    for (int i = 0; i < entries; ++i) {
      TS_RETURN_IF_ERROR(CheckValue(message, field, i, Path(path, i)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckForm(const v1::Recipe& recipe) { return CheckMessage(recipe, ""); }

}  // namespace tomoserve::models
