#include "models/names.h"

#include <algorithm>
#include <cstddef>

namespace tomoserve::models {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes the leading run of digits off `text`.
std::string_view TakeNumber(std::string_view* text) {
  std::size_t length = 0;
  while (length < text->size() && IsDigit((*text)[length])) ++length;
  const std::string_view number = text->substr(0, length);
  text->remove_prefix(length);
  return number;
}

std::string_view WithoutZeros(std::string_view number) {
  return number.substr(std::min(number.find_first_not_of('0'), number.size()));
}

}  // namespace

bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 64 && text.front() != '.' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.' ||
                  c == '-';
         });
}

bool OlderVersion(std::string_view a, std::string_view b) {
  const std::string_view whole_a = a;
  const std::string_view whole_b = b;
  while (!a.empty() && !b.empty()) {
    if (IsDigit(a.front()) && IsDigit(b.front())) {
      const std::string_view number_a = WithoutZeros(TakeNumber(&a));
      const std::string_view number_b = WithoutZeros(TakeNumber(&b));
      if (number_a.size() != number_b.size()) return number_a.size() < number_b.size();
      if (number_a != number_b) return number_a < number_b;
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  if (a.empty() != b.empty()) return a.empty();
  return whole_a.size() != whole_b.size() ? whole_a.size() < whole_b.size() : whole_a < whole_b;
}

}  // namespace tomoserve::models
