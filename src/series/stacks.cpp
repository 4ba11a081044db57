// Where positions repeat: what tells the volumes of one stack apart.
#include <algorithm>
#include <limits>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

// Something that sorts; what is absent (or not finite) comes first, as a group of its own.
using Key = std::pair<std::vector<double>, std::string>;

template <typename Value>
Key Number(bool present, Value value) {
  const auto number = static_cast<double>(value);
  return {present && std::isfinite(number) ? std::vector<double>{number} : std::vector<double>{}, ""};
}

// Directions written with rounding are the same.
Key Direction(const google::protobuf::RepeatedField<double>& direction) {
  Key key;
  for (const double value : direction) {
    if (!std::isfinite(value)) return {};
    key.first.push_back(std::round(value * 1e4) + 0.0);
  }
  return key;
}

struct Attribute {
  const char* name;
  Key (*key)(const Candidate&);
};

// In order of preference. Of an enhanced instance only its functional groups count.
constexpr Attribute kAttributes[] = {
    {"temporal_position",
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_temporal_position(), f->temporal_position())
                           : Number(c.header().has_temporal_position(), c.header().temporal_position());
     }},
    {"acquisition_number",
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_acquisition_number(), f->acquisition_number())
                           : Number(c.header().has_acquisition_number(), c.header().acquisition_number());
     }},
    {"echo_time",
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_echo_time_ms(), f->echo_time_ms())
                           : Number(c.header().has_echo_time_ms(), c.header().echo_time_ms());
     }},
    {"echo_number",
     [](const Candidate& c) {
       return Number(c.functional == nullptr && c.header().has_echo_number(), c.header().echo_number());
     }},
    {"b_value",
     [](const Candidate& c) {
       const auto* f = c.functional;
       return f != nullptr ? Number(f->has_diffusion_b_value(), f->diffusion_b_value())
                           : Number(c.header().has_diffusion_b_value(), c.header().diffusion_b_value());
     }},
    {"diffusion_direction",
     [](const Candidate& c) {
       return Direction(c.functional != nullptr ? c.functional->diffusion_direction()
                                                : c.header().diffusion_direction());
     }},
    {"image_type", [](const Candidate& c) { return Key({}, absl::StrJoin(c.ImageType(), "\\")); }},
    {"complex_image_component",
     [](const Candidate& c) {
       return Key({}, c.functional != nullptr ? c.functional->complex_image_component() : "");
     }},
    {"trigger_time",
     [](const Candidate& c) {
       const auto time = c.TriggerTimeMs();
       return Number(time.has_value(), time.value_or(0));
     }},
    {"stack_id",
     [](const Candidate& c) { return Key({}, c.functional != nullptr ? c.functional->stack_id() : ""); }},
    {"convolution_kernel", [](const Candidate& c) { return Key({}, c.header().convolution_kernel()); }},
};

// More indices than this has no dimension organisation.
constexpr int kMaxDimensions = 8;
// Three attributes together are tried on no more slices: a bound for hostile headers.
constexpr std::size_t kMaxSlicesOfTriples = 20'000;

// An attribute's values as numbers from 0, in order of the values.
struct Ranks {
  std::string name;
  std::uint32_t values = 0;
  std::vector<std::uint32_t> of_slice;
};

template <typename KeyOf>
Ranks RankBy(std::string name, const std::vector<Candidate>& slices, KeyOf key_of) {
  std::vector<decltype(key_of(slices[0]))> keys;
  for (const Candidate& slice : slices) keys.push_back(key_of(slice));
  auto sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  Ranks ranks{std::move(name), static_cast<std::uint32_t>(sorted.size()), {}};
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
  for (const Attribute& attribute : kAttributes) add(RankBy(attribute.name, slices, attribute.key));
  for (int dimension = 0; dimension < kMaxDimensions; ++dimension) {
    add(RankBy(absl::StrCat("dimension_index_", dimension + 1), slices, [&](const Candidate& slice) {
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

StackSplit SplitBy(const Partition& groups, const std::vector<Candidate>& slices, std::string by) {
  std::map<std::uint64_t, std::vector<Candidate>> stacks;
  for (std::size_t n = 0; n < slices.size(); ++n) stacks[groups[n]].push_back(slices[n]);
  StackSplit split;
  split.by = std::move(by);
  for (auto& [group, stack] : stacks) split.stacks.push_back(std::move(stack));
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
      if (fit == Fit::kComplete) return SplitBy(groups, slices, Names(set));
      if (fit == Fit::kClean && !clean) clean = SplitBy(groups, slices, Names(set));
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
     true, true},
    {"acquisition_time",
     [](const Candidate& c) -> std::optional<std::vector<double>> {
       const auto time = c.functional == nullptr ? Seconds(c.header().acquisition_time()) : std::nullopt;
       if (!time) return std::nullopt;
       return std::vector<double>{*time};
     },
     false, false},
    {"instance_number",
     [](const Candidate& c) -> std::optional<std::vector<double>> {
       if (!c.header().has_instance_number()) return std::nullopt;
       return std::vector<double>{double(c.header().instance_number()), double(c.frame)};
     },
     true, false},
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
        return SplitBy(*numbered, slices, absl::StrCat(Names(set), set.empty() ? "" : ",", ordinal.name));
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
