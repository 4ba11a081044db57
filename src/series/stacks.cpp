// Where positions repeat: what tells the volumes of one stack apart.
#include <algorithm>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/attributes.h"
#include "series/internal.h"
#include "series/time_points.h"

namespace tomoserve::series {
namespace {

// More indices than this has no dimension organisation.
constexpr int kMaxDimensions = 8;
// Three attributes together are tried on no more slices: a bound for hostile headers.
constexpr std::size_t kMaxSlicesOfTriples = 20'000;

// An attribute's values as numbers from 0, in order of the values.
struct Ranks {
  std::string name;
  int time = 0;  // as of its Attribute
  std::uint32_t values = 0;
  std::vector<std::uint32_t> of_slice;
};

template <typename KeyOf>
Ranks RankBy(std::string name, int time, const std::vector<Candidate>& slices, KeyOf key_of) {
  std::vector<decltype(key_of(slices[0]))> keys;
  for (const Candidate& slice : slices) keys.push_back(key_of(slice));
  auto sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  Ranks ranks{std::move(name), time, static_cast<std::uint32_t>(sorted.size()), {}};
  for (const auto& key : keys) {
    ranks.of_slice.push_back(
        static_cast<std::uint32_t>(std::lower_bound(sorted.begin(), sorted.end(), key) - sorted.begin()));
  }
  return ranks;
}

// The attributes that have more than one value, in order of preference. One with more values than half the
// slices leaves a slice alone in its stack, and so does every set with it.
std::vector<Ranks> VaryingAttributes(const std::vector<Candidate>& slices) {
  std::vector<Ranks> all;
  const auto add = [&](Ranks ranks) {
    if (ranks.values > 1 && ranks.values <= slices.size() / 2) all.push_back(std::move(ranks));
  };
  for (const Attribute& attribute : Attributes())
    add(RankBy(attribute.name, attribute.time, slices, attribute.key));
  for (int dimension = 0; dimension < kMaxDimensions; ++dimension) {
    add(RankBy(absl::StrCat("dimension_index_", dimension + 1), /*time=*/0, slices,
               [&](const Candidate& slice) {
                 const auto* f = slice.functional;
                 if (f == nullptr || f->dimension_index_values_size() <= dimension) return -1.0;
                 return static_cast<double>(f->dimension_index_values(dimension));
               }));
  }
  return all;
}

// A partition of the slices; the groups' numbers are in order of the values that made them.
using Partition = std::vector<std::uint64_t>;

Partition Combined(const std::vector<const Ranks*>& attributes, std::size_t slices) {
  // Each has fewer than 2^17 values (kMaxSlices), so that three fit.
  Partition groups(slices);
  for (const Ranks* attribute : attributes) {
    for (std::size_t n = 0; n < slices; ++n)
      groups[n] = groups[n] * attribute->values + attribute->of_slice[n];
  }
  return groups;
}

enum class Fit { kNone, kClean, kComplete };

// Clean: several stacks of more than one slice, no position twice, and most steps of each lead to the next
// position there is: what lacks every second one is no stack, and no judge of its steps could see that.
// Complete: each has every position.
Fit FitOf(const Partition& groups, const std::vector<std::uint32_t>& places, std::uint32_t distinct_places) {
  std::vector<std::pair<std::uint64_t, std::uint32_t>> sorted;
  for (std::size_t n = 0; n < groups.size(); ++n) sorted.emplace_back(groups[n], places[n]);
  std::sort(sorted.begin(), sorted.end());
  std::size_t count = 0;
  for (std::size_t first = 0; first < sorted.size();) {
    std::size_t next = first + 1;
    std::size_t single_steps = 0;
    for (; next < sorted.size() && sorted[next].first == sorted[first].first; ++next) {
      if (sorted[next].second == sorted[next - 1].second) return Fit::kNone;
      if (sorted[next].second == sorted[next - 1].second + 1) ++single_steps;
    }
    if (next - first < 2 || 2 * single_steps < next - first - 1) return Fit::kNone;
    ++count;
    first = next;
  }
  if (count < 2) return Fit::kNone;
  return count * distinct_places == groups.size() ? Fit::kComplete : Fit::kClean;
}

// `set`: the attributes that took part. Within a group of their values the groups' numbers are in order of
// time.
StackSplit SplitBy(const Partition& groups, const std::vector<const Ranks*>& set,
                   const std::vector<Candidate>& slices, std::string by) {
  std::map<std::uint64_t, std::vector<std::size_t>> members;
  for (std::size_t n = 0; n < slices.size(); ++n) members[groups[n]].push_back(n);
  std::vector<const Ranks*> slowest_first = set;
  std::stable_sort(slowest_first.begin(), slowest_first.end(),
                   [](const Ranks* a, const Ranks* b) { return a->time < b->time; });
  StackSplit split;
  split.by = std::move(by);
  std::vector<SplitValues> values;
  for (const auto& [group, stack] : members) {
    SplitStack& out = split.stacks.emplace_back();
    for (const std::size_t n : stack) out.slices.push_back(slices[n]);
    SplitValues& of_stack = values.emplace_back();
    for (const Ranks* attribute : slowest_first) {
      auto& kind = attribute->time > 0 ? of_stack.time : of_stack.other;
      kind.push_back(attribute->of_slice[stack.front()]);
    }
  }
  PlaceInTime(values, split.stacks);
  return split;
}

// All sets of `size` of the attributes, in order of preference.
std::vector<std::vector<const Ranks*>> Subsets(const std::vector<Ranks>& attributes, std::size_t size) {
  std::vector<std::vector<const Ranks*>> sets{{}};
  for (std::size_t round = 0; round < size; ++round) {
    std::vector<std::vector<const Ranks*>> larger;
    for (const auto& set : sets) {
      for (const Ranks& attribute : attributes) {
        if (!set.empty() && &attribute <= set.back()) continue;
        larger.push_back(set);
        larger.back().push_back(&attribute);
      }
    }
    sets = std::move(larger);
  }
  return sets;
}

std::string Names(const std::vector<const Ranks*>& attributes) {
  return absl::StrJoin(attributes, ",",
                       [](std::string* out, const Ranks* attribute) { out->append(attribute->name); });
}

// The fewest attributes whose values tell the stacks apart.
StackSplit SplitByValues(const std::vector<Ranks>& attributes, const std::vector<Candidate>& slices,
                         const std::vector<std::uint32_t>& places, std::uint32_t distinct_places) {
  const std::size_t most = slices.size() <= kMaxSlicesOfTriples ? 3 : 2;
  for (std::size_t size = 1; size <= most; ++size) {
    std::optional<StackSplit> clean;
    for (const auto& set : Subsets(attributes, size)) {
      const Partition groups = Combined(set, slices.size());
      const Fit fit = FitOf(groups, places, distinct_places);
      if (fit == Fit::kComplete) return SplitBy(groups, set, slices, Names(set));
      if (fit == Fit::kClean && !clean) clean = SplitBy(groups, set, slices, Names(set));
    }
    if (clean) return *std::move(clean);
  }
  return {};
}

// What only orders the slices at one position. The n-th ones are a stack.
struct Ordinal {
  const char* name;
  // Sorts; nothing where the slice does not say.
  std::optional<std::vector<double>> (*key)(const Candidate&);
  bool may_interleave;  // all slices of a position may follow each other
  bool may_mix;         // ranks are enough where they keep phases apart, whatever the order of stacks is
  bool time_of_day;
};

// HHMMSS.FFFFFF in seconds.
std::optional<double> Seconds(const std::string& time) {
  if (time.size() < 6 || !std::all_of(time.begin(), time.begin() + 6, absl::ascii_isdigit))
    return std::nullopt;
  const auto two = [&](std::size_t at) { return (time[at] - '0') * 10.0 + (time[at + 1] - '0'); };
  double seconds = two(0) * 3600 + two(2) * 60 + two(4);
  double unit = 0.1;
  for (std::size_t at = 7; at < time.size() && time[6] == '.' && absl::ascii_isdigit(time[at]);
       ++at, unit /= 10) {
    seconds += (time[at] - '0') * unit;
  }
  return seconds;
}

constexpr Ordinal kOrdinals[] = {
    // Of each slice of a gated acquisition the phases' times are a little different.
    {"trigger_time",
     [](const Candidate& c) -> std::optional<std::vector<double>> {
       const auto time = c.TriggerTimeMs();
       if (!time || !std::isfinite(*time)) return std::nullopt;
       return std::vector<double>{*time};
     },
     true, true, false},
    {"acquisition_time",
     [](const Candidate& c) -> std::optional<std::vector<double>> {
       const auto time = Seconds(c.AcquisitionTime());
       if (!time) return std::nullopt;
       return std::vector<double>{*time};
     },
     false, false, true},
    {"instance_number",
     [](const Candidate& c) -> std::optional<std::vector<double>> {
       if (!c.header().has_instance_number()) return std::nullopt;
       return std::vector<double>{double(c.header().instance_number()), double(c.frame)};
     },
     true, false, false},
};

// Numbers the slices at each position in the order of `ordinal`, within the given groups. Nothing where a
// group with repeated positions lacks a slice, or where the numbers do not make whole stacks: one after the
// other, or all slices of a position after each other.
std::optional<Partition> Numbered(const Ordinal& ordinal, const std::vector<Candidate>& slices,
                                  const std::vector<std::uint32_t>& places, const Partition& groups) {
  struct Entry {
    std::uint64_t group;
    std::uint32_t place;
    std::vector<double> key;
    std::size_t slice;
  };
  std::vector<Entry> entries;
  for (std::size_t n = 0; n < slices.size(); ++n) {
    auto key = ordinal.key(slices[n]);
    if (!key) return std::nullopt;
    entries.push_back({groups[n], places[n], *std::move(key), n});
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.group, a.place, a.key, a.slice) < std::tie(b.group, b.place, b.key, b.slice);
  });
  Partition numbered(slices.size());
  std::uint64_t next_stack = 0;
  for (std::size_t first = 0; first < entries.size();) {
    std::size_t end = first;
    while (end < entries.size() && entries[end].group == entries[first].group) ++end;
    // Slices at the first position; every other one must have as many.
    std::size_t phases = 0;
    while (first + phases < end && entries[first + phases].place == entries[first].place) ++phases;
    if ((end - first) % phases != 0) return std::nullopt;
    for (std::size_t n = first; n < end; ++n) {
      const std::size_t phase = (n - first) % phases;
      if (phase == 0 ? n > first && entries[n].place == entries[n - 1].place
                     : entries[n].place != entries[n - 1].place || entries[n].key == entries[n - 1].key) {
        return std::nullopt;
      }
      numbered[entries[n].slice] = next_stack + phase;
    }
    if (!ordinal.may_mix && phases > 1) {
      // In order of the keys: whole stacks after each other, or whole positions.
      std::vector<Entry> ordered(entries.begin() + static_cast<std::ptrdiff_t>(first),
                                 entries.begin() + static_cast<std::ptrdiff_t>(end));
      std::sort(ordered.begin(), ordered.end(), [](const Entry& a, const Entry& b) { return a.key < b.key; });
      const std::size_t positions = ordered.size() / phases;
      bool stacks = true;
      bool interleaved = ordinal.may_interleave;
      for (std::size_t n = 1; n < ordered.size(); ++n) {
        if (n % positions != 0 && numbered[ordered[n].slice] != numbered[ordered[n - 1].slice])
          stacks = false;
        if (n % phases != 0 && ordered[n].place != ordered[n - 1].place) interleaved = false;
      }
      if (!stacks && !interleaved) return std::nullopt;
    }
    next_stack += phases;
    first = end;
  }
  return numbered;
}

// Whether stacks that were told apart by an order keep the phases of a gated acquisition apart: where trigger
// times differ at a position, those of one stack must lie closer together than half the distance to the next
// stack's (medians, within `groups`). Else the n-th slices of the positions are of different phases.
bool KeepsPhases(const Partition& numbered, const Partition& groups, const std::vector<Candidate>& slices,
                 const std::vector<std::uint32_t>& places) {
  std::map<std::pair<std::uint64_t, std::uint32_t>, double> time_at;
  std::map<std::uint64_t, std::map<std::uint64_t, std::vector<double>>> times;  // by group, stack
  bool phases = false;
  for (std::size_t n = 0; n < slices.size(); ++n) {
    const auto time = slices[n].TriggerTimeMs();
    if (!time || !std::isfinite(*time)) return true;
    phases = phases || time_at.emplace(std::pair(groups[n], places[n]), *time).first->second != *time;
    times[groups[n]][numbered[n]].push_back(*time);
  }
  if (!phases) return true;
  for (auto& [group, stacks] : times) {
    std::vector<std::pair<double, double>> phases_of_group;  // median, spread
    for (auto& [stack, all] : stacks) {
      std::sort(all.begin(), all.end());
      phases_of_group.emplace_back(all[(all.size() - 1) / 2], all.back() - all.front());
    }
    std::sort(phases_of_group.begin(), phases_of_group.end());
    for (std::size_t n = 1; n < phases_of_group.size(); ++n) {
      const double half = (phases_of_group[n].first - phases_of_group[n - 1].first) / 2;
      if (!(phases_of_group[n].second < half && phases_of_group[n - 1].second < half)) return false;
    }
  }
  return true;
}

// Times of day this far apart are those of a series that went on over midnight, s.
constexpr double kOverMidnight = 18 * 3600;

// Of slices told apart by their times of day: which are of the next day.
Ranks NextDay(const std::vector<Candidate>& slices) {
  std::vector<double> times;
  for (const Candidate& slice : slices) times.push_back(Seconds(slice.AcquisitionTime()).value_or(0));
  const auto [first, last] = std::minmax_element(times.begin(), times.end());
  const bool over_midnight = *last - *first > kOverMidnight;
  Ranks next{"next_day", /*time=*/std::numeric_limits<int>::max(), 2, {}};
  for (const double time : times) next.of_slice.push_back(over_midnight && time < kOverMidnight / 2 ? 1 : 0);
  return next;
}

StackSplit SplitByOrder(const std::vector<Ranks>& attributes, const std::vector<Candidate>& slices,
                        const std::vector<std::uint32_t>& places, std::uint32_t distinct_places) {
  for (std::size_t size = 0; size < 2; ++size) {
    for (const auto& set : Subsets(attributes, size)) {
      const Partition groups = Combined(set, slices.size());
      for (const Ordinal& ordinal : kOrdinals) {
        const auto numbered = Numbered(ordinal, slices, places, groups);
        if (!numbered || FitOf(*numbered, places, distinct_places) == Fit::kNone ||
            !KeepsPhases(*numbered, groups, slices, places)) {
          continue;
        }
        const std::string by = absl::StrCat(Names(set), set.empty() ? "" : ",", ordinal.name);
        if (!ordinal.time_of_day) return SplitBy(*numbered, set, slices, by);
        const Ranks next_day = NextDay(slices);
        std::vector<const Ranks*> with_day = set;
        with_day.push_back(&next_day);
        return SplitBy(*numbered, with_day, slices, by);
      }
    }
  }
  return {};
}

}  // namespace

StackSplit SplitStacks(const std::vector<Candidate>& slices, const std::vector<std::uint32_t>& places) {
  const std::uint32_t distinct_places = *std::max_element(places.begin(), places.end()) + 1;
  const std::vector<Ranks> attributes = VaryingAttributes(slices);
  StackSplit split = SplitByValues(attributes, slices, places, distinct_places);
  if (!split.stacks.empty()) return split;
  return SplitByOrder(attributes, slices, places, distinct_places);
}

}  // namespace tomoserve::series
