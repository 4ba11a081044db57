#include "models/import/json.h"

#include <algorithm>
#include <optional>

#include "models/import/errors.h"

namespace tomoserve::models::importer {
namespace {

constexpr int kMaxDepth = 64;

// Brackets outside of strings; the parser itself judges the rest.
bool IsTooDeep(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

bool IsNumber(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

Place Place::Child(std::string_view key) const {
  Place child = *this;
  child.keys.emplace_back(key);
  return child;
}

Place Place::Child(std::size_t index) const { return Child(absl::StrCat(index)); }

std::string Place::Text() const {
  std::string text;
  for (const std::string& key : keys) {
    if (IsNumber(key)) {
      absl::StrAppend(&text, "[", key, "]");
    } else {
      absl::StrAppend(&text, text.empty() ? "" : ".", OneLine(key, 80));
    }
  }
  return text;
}

absl::StatusOr<Json> ParseJson(std::string_view text, std::string_view file) {
  if (IsTooDeep(text)) return Malformed(file, absl::StrCat("is nested deeper than ", kMaxDepth, " levels"));
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return Malformed(file, absl::StrCat("is no JSON at byte ", error.byte));
  } catch (const Json::exception&) {
    return Malformed(file, "holds a number that cannot be read");
  }
}

std::string Short(const Json& value) {
  return OneLine(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60);
}

std::string OneLine(std::string_view text, std::size_t longest) {
  std::string line(text.substr(0, longest));
  if (text.size() > longest) {
    // No half characters at the cut.
    while (!line.empty() && (static_cast<unsigned char>(text[line.size()]) & 0xC0U) == 0x80) line.pop_back();
  }
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  const std::size_t first = line.find_first_not_of(' ');
  if (first == std::string::npos) return "";
  return line.substr(first, line.find_last_not_of(' ') - first + 1);
}

std::optional<Place> FirstDifference(const Json& a, const Json& b, const Place& place) {
  if (a.is_object() && b.is_object()) {
    for (const auto& [key, value] : a.items()) {
      if (!b.contains(key)) return place.Child(key);
      if (auto difference = FirstDifference(value, b[key], place.Child(key))) return difference;
    }
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) return place.Child(key);
    }
    return std::nullopt;
  }
  if (a.is_array() && b.is_array()) {
    for (std::size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
      if (i >= a.size() || i >= b.size()) return place.Child(i);
      if (auto difference = FirstDifference(a[i], b[i], place.Child(i))) return difference;
    }
    return std::nullopt;
  }
  if (a == b) return std::nullopt;
  return place;
}

}  // namespace tomoserve::models::importer
