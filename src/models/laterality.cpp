#include "tomoserve/models/laterality.h"

#include <string>

#include "absl/strings/ascii.h"

namespace tomoserve::models {
namespace {

struct Sides {
  bool left = false;
  bool right = false;
};

Sides SidesIn(const std::string& text) {
  Sides sides;
  std::string word;
  for (std::size_t n = 0; n <= text.size(); ++n) {
    const auto c = n < text.size() ? static_cast<unsigned char>(text[n]) : static_cast<unsigned char>(' ');
    // Bytes of letters beyond ASCII are part of a word too.
    if (absl::ascii_isalpha(c) || c >= 0x80) {
      word.push_back(absl::ascii_tolower(c));
      continue;
    }
    sides.left = sides.left || word == "left";
    sides.right = sides.right || word == "right";
    word.clear();
  }
  return sides;
}

}  // namespace

v1::Laterality LateralityOfLabel(const v1::Label& label) {
  Sides sides = SidesIn(label.name());
  if (!sides.left && !sides.right) sides = SidesIn(label.type().meaning());
  if (sides.left == sides.right) return v1::LATERALITY_UNSPECIFIED;
  return sides.left ? v1::LATERALITY_LEFT : v1::LATERALITY_RIGHT;
}

}  // namespace tomoserve::models
