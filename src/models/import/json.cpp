#include "models/import/json.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "models/import/errors.h"

namespace tomoserve::models::importer {
namespace {

constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxKeyBytes = 256;
// ordered_json looks through all keys of an object for each new one.
constexpr std::size_t kMaxMembersOfObject = 10000;
constexpr std::size_t kMaxMembers = 100000;

// Why the text is not given to the parser, which itself judges the rest; empty where it is.
std::string TooMuch(std::string_view text) {
  std::vector<std::size_t> members;  // of each open bracket
  std::size_t all_members = 0;
  std::size_t string_start = 0;
  std::size_t string_bytes = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') {
        in_string = false;
        string_bytes = i - string_start - 1;
      }
    } else if (c == '"') {
      in_string = true;
      string_start = i;
    } else if (c == '[' || c == '{') {
      members.push_back(0);
      if (members.size() > kMaxDepth) return absl::StrCat("is nested deeper than ", kMaxDepth, " levels");
    } else if (c == ']' || c == '}') {
      if (!members.empty()) members.pop_back();
    } else if (c == ':' && !members.empty()) {
      if (string_bytes > kMaxKeyBytes) {
        return absl::StrCat("has a key of more than ", kMaxKeyBytes, " bytes");
      }
      if (++members.back() > kMaxMembersOfObject) {
        return absl::StrCat("has an object of more than ", kMaxMembersOfObject, " members");
      }
      if (++all_members > kMaxMembers) {
        return absl::StrCat("has more than ", kMaxMembers, " members in its objects");
      }
    }
  }
  return "";
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
  const std::string too_much = TooMuch(text);
  if (!too_much.empty()) return Malformed(file, too_much);
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
    std::map<std::string_view, const Json*> others;
    std::set<std::string_view> known;
    for (const auto& [key, value] : b.items()) others.emplace(key, &value);
    for (const auto& [key, value] : a.items()) {
      known.insert(key);
      const auto other = others.find(key);
      if (other == others.end()) return place.Child(key);
      if (auto difference = FirstDifference(value, *other->second, place.Child(key))) return difference;
    }
    for (const auto& [key, value] : b.items()) {
      if (!known.contains(key)) return place.Child(key);
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
