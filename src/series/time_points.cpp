#include "series/time_points.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "series/attributes.h"

namespace tomoserve::series {
namespace {

// What the slices of a stack have beside time. Stacks may differ in it, whatever they were told apart by: of
// two echoes with an Acquisition Number each, that alone is enough.
std::vector<std::set<Key>> BesideTime(const std::vector<Candidate>& slices) {
  std::vector<std::set<Key>> values;
  for (const Attribute& attribute : Attributes()) {
    if (attribute.time > 0) continue;
    std::set<Key>& own = values.emplace_back();
    for (const Candidate& slice : slices) own.insert(attribute.key(slice));
  }
  // Two energies of one CT.
  std::set<Key>& kvp = values.emplace_back();
  for (const Candidate& slice : slices) {
    const double value = slice.Kvp().value_or(0);
    kvp.insert({{std::isfinite(value) ? value : 0}, ""});
  }
  return values;
}

}  // namespace

void PlaceInTime(const std::vector<SplitValues>& values, std::vector<SplitStack>& stacks) {
  std::map<std::pair<std::vector<std::uint32_t>, std::vector<std::set<Key>>>, std::vector<std::size_t>> alike;
  for (std::size_t n = 0; n < stacks.size(); ++n) {
    alike[{values[n].other, BesideTime(stacks[n].slices)}].push_back(n);
  }
  std::uint32_t stack = 0;
  for (auto& [beside, members] : alike) {
    std::stable_sort(members.begin(), members.end(),
                     [&](std::size_t a, std::size_t b) { return values[a].time < values[b].time; });
    for (std::size_t n = 0; n < members.size(); ++n) {
      stacks[members[n]].stack = stack;
      stacks[members[n]].time_point = static_cast<std::uint32_t>(n);
    }
    ++stack;
  }
}

}  // namespace tomoserve::series
