// Where positions repeat: which attribute tells the volumes of one stack apart.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

using Header = ipc::v1::InstanceHeader;

// Slices whose positions along the normal differ by less are at the same place, mm.
constexpr double kSamePositionMm = 0.01;

// A number that sorts; absent (or not finite) values come first, as a group of their own.
using Key = std::pair<std::vector<double>, std::string>;

template <typename Value>
Key Number(bool present, Value value) {
  const auto number = static_cast<double>(value);
  return {present && std::isfinite(number) ? std::vector<double>{number} : std::vector<double>{}, ""};
}

struct Attribute {
  const char* name;
  Key (*key)(const Header&);
  bool volumes;  // its groups are volumes in their own right; else phases, which are not told apart yet
};

constexpr Attribute kAttributes[] = {
    {"temporal_position",
     [](const Header& h) { return Number(h.has_temporal_position(), h.temporal_position()); }, true},
    {"acquisition_number",
     [](const Header& h) { return Number(h.has_acquisition_number(), h.acquisition_number()); }, true},
    {"echo_time", [](const Header& h) { return Number(h.has_echo_time_ms(), h.echo_time_ms()); }, true},
    {"echo_number", [](const Header& h) { return Number(h.has_echo_number(), h.echo_number()); }, true},
    {"b_value", [](const Header& h) { return Number(h.has_diffusion_b_value(), h.diffusion_b_value()); },
     true},
    {"image_type", [](const Header& h) { return Key({}, absl::StrJoin(h.image_type(), "\\")); }, true},
    {"trigger_time", [](const Header& h) { return Number(h.has_trigger_time_ms(), h.trigger_time_ms()); },
     false},
};

// Number of slices that lie where another one lies already.
std::uint32_t RepeatedPositions(const std::vector<Candidate>& slices) {
  if (slices.empty()) return 0;
  const Vector3 normal = Cross(slices.front().row, slices.front().column);
  std::vector<double> positions;
  for (const Candidate& slice : slices) positions.push_back(Dot(slice.position, normal));
  std::sort(positions.begin(), positions.end());
  std::uint32_t repeated = 0;
  for (std::size_t n = 1; n < positions.size(); ++n) {
    if (positions[n] - positions[n - 1] < kSamePositionMm) ++repeated;
  }
  return repeated;
}

using Groups = std::map<std::vector<Key>, std::vector<Candidate>>;

Groups Split(const std::vector<Candidate>& slices, const std::vector<const Attribute*>& attributes) {
  Groups groups;
  for (const Candidate& slice : slices) {
    std::vector<Key> key;
    for (const Attribute* attribute : attributes) key.push_back(attribute->key(slice.header()));
    groups[std::move(key)].push_back(slice);
  }
  return groups;
}

// Every group is a stack: more than one slice, no position twice.
bool Clean(const Groups& groups) {
  return groups.size() > 1 && std::all_of(groups.begin(), groups.end(), [](const auto& group) {
           return group.second.size() > 1 && RepeatedPositions(group.second) == 0;
         });
}

Volume Rejected(const std::vector<Candidate>& slices, tomoserve::v1::Reason reason) {
  std::vector<Known> known;
  for (const Candidate& slice : slices) known.push_back(slice.known);
  return RejectedVolume(known, std::move(reason));
}

}  // namespace

std::vector<Volume> BuildStacks(const std::vector<Candidate>& slices) {
  const std::uint32_t repeated = RepeatedPositions(slices);
  if (repeated == 0) return {JudgeStack(slices)};

  // One attribute that tells the stacks apart, or two together.
  std::vector<std::vector<const Attribute*>> ways;
  for (const Attribute& attribute : kAttributes) ways.push_back({&attribute});
  for (std::size_t first = 0; first < std::size(kAttributes); ++first) {
    for (std::size_t second = first + 1; second < std::size(kAttributes); ++second) {
      ways.push_back({&kAttributes[first], &kAttributes[second]});
    }
  }
  for (const auto& way : ways) {
    const Groups groups = Split(slices, way);
    if (!Clean(groups)) continue;
    if (!std::all_of(way.begin(), way.end(), [](const Attribute* attribute) { return attribute->volumes; })) {
      return {
          Rejected(slices, MakeReason("MULTI_PHASE", absl::StrCat(groups.size()),
                                      "several phases at each position, told apart by their trigger time"))};
    }
    std::string names;
    for (const Attribute* attribute : way) absl::StrAppend(&names, names.empty() ? "" : ",", attribute->name);
    std::vector<Volume> volumes;
    for (const auto& group : groups) {
      volumes.push_back(JudgeStack(group.second));
      volumes.back().reasons.push_back(
          MakeReason("SPLIT_BY", names,
                     absl::StrCat("volume ", volumes.size(), " of ", groups.size(), " in its series")));
    }
    return volumes;
  }
  return {Rejected(slices, MakeReason("DUPLICATE_POSITIONS", absl::StrCat(repeated),
                                      "slices share a position and no attribute tells them apart"))};
}

}  // namespace tomoserve::series
