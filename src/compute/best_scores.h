// The highest of many scores, without holding them all. Private to the room.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tomoserve::compute {

struct Scored {
  float score = 0;
  std::int64_t place = 0;  // no two are equal
};

// Whether `a` comes before `b`: the higher score, of equal ones the lower place.
inline bool IsBetter(const Scored& a, const Scored& b) {
  return a.score != b.score ? a.score > b.score : a.place < b.place;
}

// Keeps the `kept` best of what is added, in any order. Confined to one thread at a time.
class BestScores {
 public:
  explicit BestScores(std::size_t kept) : kept_(kept) {}

  void Add(const Scored& scored) {
    if (held_.size() >= 2 * kept_ + kSlack) Cut();
    held_.push_back(scored);
  }

  // The best first.
  std::vector<Scored> Sorted() {
    Cut();
    std::sort(held_.begin(), held_.end(), IsBetter);
    return held_;
  }

  // How many there is memory for.
  std::size_t capacity() const { return held_.capacity(); }

 private:
  static constexpr std::size_t kSlack = 1024;  // so that cutting pays

  void Cut() {
    if (held_.size() <= kept_) return;
    const auto end = held_.begin() + static_cast<std::ptrdiff_t>(kept_);
    std::nth_element(held_.begin(), end, held_.end(), IsBetter);
    held_.erase(end, held_.end());
  }

  std::size_t kept_;
  std::vector<Scored> held_;
};

}  // namespace tomoserve::compute
