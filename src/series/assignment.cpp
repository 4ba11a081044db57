#include "series/assignment.h"

#include <algorithm>
#include <map>
#include <set>

namespace tomoserve::series {
namespace {

class Assignment {
 public:
  explicit Assignment(const Choices& choices) : choices_(choices) {}

  // Serves one more input; those that are served stay so.
  void Add(std::size_t input) {
    std::set<const Volume*> seen;
    Serve(input, seen);
  }

  std::vector<const Volume*> Result() const {
    std::vector<const Volume*> volumes(choices_.size());
    for (const auto& [volume, input] : taken_by_) volumes[input] = volume;
    return volumes;
  }

 private:
  bool Serve(std::size_t input, std::set<const Volume*>& seen) {
    for (const Volume* volume : choices_[input]) {
      if (!seen.insert(volume).second) continue;
      const auto taken = taken_by_.find(volume);
      if (taken == taken_by_.end() || Serve(taken->second, seen)) {
        taken_by_[volume] = input;
        return true;
      }
    }
    return false;
  }

  const Choices& choices_;
  std::map<const Volume*, std::size_t> taken_by_;
};

bool ServesAll(const Choices& choices) {
  const auto volumes = Assign(choices);
  return std::find(volumes.begin(), volumes.end(), nullptr) == volumes.end();
}

}  // namespace

std::vector<const Volume*> Assign(const Choices& choices) {
  Assignment assignment(choices);
  for (std::size_t input = 0; input < choices.size(); ++input) assignment.Add(input);
  return assignment.Result();
}

std::vector<const Volume*> AssignBest(Choices choices) {
  // The others can take no more of an input's volumes than they are: the best so many are enough for each.
  for (auto& volumes : choices) volumes.resize(std::min(volumes.size(), choices.size()));
  if (!ServesAll(choices)) return {};
  std::vector<const Volume*> chosen;
  for (std::size_t input = 0; input < choices.size(); ++input) {
    for (const Volume* volume : choices[input]) {
      Choices rest(choices.begin() + static_cast<std::ptrdiff_t>(input) + 1, choices.end());
      for (auto& volumes : rest) std::erase(volumes, volume);
      if (!ServesAll(rest)) continue;
      chosen.push_back(volume);
      for (auto& volumes : choices) std::erase(volumes, volume);
      break;
    }
  }
  return chosen;
}

}  // namespace tomoserve::series
