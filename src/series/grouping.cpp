// From the frames of one series to stacks of like slices.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

// Cosines this close are the same orientation (0.06 degrees).
constexpr double kOrientationTolerance = 1e-3;
// Pixel spacings this close (relative) are the same.
constexpr double kSpacingTolerance = 1e-4;
// A group beside others needs this many slices to be a stack of its own, not a stray of another.
constexpr std::size_t kStackSlices = 3;
// What fits none of so many groups is a stray: a bound for hostile headers.
constexpr std::size_t kMaxClusters = 128;

bool Near(const Vector3& a, const Vector3& b) {
  const Vector3 d = Minus(a, b);
  return std::max({std::abs(d[0]), std::abs(d[1]), std::abs(d[2])}) <= kOrientationTolerance;
}

bool NearSpacing(double a, double b) { return std::abs(a - b) <= kSpacingTolerance * std::max(a, b); }

// What tells two slices of different stacks apart, most telling first; null: they may share a stack.
const char* Difference(const Candidate& a, const Candidate& b) {
  const Header& x = a.header();
  const Header& y = b.header();
  if (x.modality() != y.modality()) return "MIXED_MODALITY";
  if (x.frame_of_reference_uid() != y.frame_of_reference_uid()) return "MIXED_FRAME_OF_REFERENCE";
  if (!Near(a.row, b.row) || !Near(a.column, b.column)) return "MIXED_ORIENTATION";
  if (a.rows() != b.rows() || a.columns() != b.columns()) return "MIXED_MATRIX";
  if (!NearSpacing(a.row_spacing, b.row_spacing) || !NearSpacing(a.column_spacing, b.column_spacing)) {
    return "MIXED_SPACING";
  }
  return nullptr;
}

// A group of slices that may share a stack, and slices that found no group any more.
struct Clusters {
  std::vector<std::vector<Candidate>> groups;
  std::vector<Candidate> homeless;
};

Clusters Cluster(std::vector<Candidate> candidates) {
  Clusters clusters;
  for (Candidate& candidate : candidates) {
    const auto home = std::find_if(
        clusters.groups.begin(), clusters.groups.end(),
        [&](const std::vector<Candidate>& group) { return Difference(group.front(), candidate) == nullptr; });
    if (home != clusters.groups.end()) {
      home->push_back(std::move(candidate));
    } else if (clusters.groups.size() < kMaxClusters) {
      clusters.groups.emplace_back().push_back(std::move(candidate));
    } else {
      clusters.homeless.push_back(std::move(candidate));
    }
  }
  // The biggest first; equal ones stay in the order of their smallest SOP UID.
  std::stable_sort(clusters.groups.begin(), clusters.groups.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return clusters;
}

// Slices that differ from those of every stack.
struct Strays {
  std::vector<Candidate> slices;
  std::map<std::string, std::uint32_t> codes;  // what they differ in

  void Add(const Candidate& slice, const Candidate& other) {
    ++codes[Difference(slice, other)];
    slices.push_back(slice);
  }
};

// Moves groups that are too small beside others from `clusters` to the strays.
Strays TakeStrays(Clusters& clusters) {
  Strays strays;
  if (clusters.groups.size() < 2) return strays;
  std::vector<std::vector<Candidate>> stacks;
  for (const std::vector<Candidate>& group : clusters.groups) {
    if (group.size() >= kStackSlices) {
      stacks.push_back(group);
      continue;
    }
    // Against the biggest group; the biggest itself against the next.
    const bool is_biggest = &group == &clusters.groups.front();
    const Candidate& other = clusters.groups[is_biggest ? 1 : 0].front();
    for (const Candidate& slice : group) strays.Add(slice, other);
  }
  for (const Candidate& slice : clusters.homeless) strays.Add(slice, clusters.groups.front().front());
  clusters.groups = std::move(stacks);
  return strays;
}

// One content per SOP UID; says how many UIDs had two.
std::uint32_t DropConflicting(std::vector<Candidate>& slices) {
  std::map<std::string, const Known*> conflicting;
  std::erase_if(slices, [&](const Candidate& slice) {
    if (!slice.known->conflict) return false;
    return conflicting.emplace(slice.known->sop_instance_uid, slice.known).first->second != slice.known;
  });
  return static_cast<std::uint32_t>(conflicting.size());
}

// By position along the normal: the number of the place each slice lies at, equal at the same one.
std::vector<std::uint32_t> PlacesOf(const std::vector<Candidate>& slices) {
  // Slices whose positions differ by less are at the same place, mm.
  constexpr double kSamePositionMm = 0.01;
  const Vector3 normal = Cross(slices.front().row, slices.front().column);
  std::vector<std::pair<double, std::size_t>> along;
  for (std::size_t n = 0; n < slices.size(); ++n) along.emplace_back(Dot(slices[n].position, normal), n);
  std::sort(along.begin(), along.end());
  std::vector<std::uint32_t> places(slices.size());
  std::uint32_t place = 0;
  for (std::size_t n = 0; n < along.size(); ++n) {
    if (n > 0 && along[n].first - along[n - 1].first >= kSamePositionMm) ++place;
    places[along[n].second] = place;
  }
  return places;
}

bool AllAccepted(const std::vector<Volume>& volumes) {
  return std::all_of(volumes.begin(), volumes.end(),
                     [](const Volume& volume) { return volume.verdict == Verdict::kAccept; });
}

std::vector<Volume> JudgeStacks(const StackSplit& split) {
  std::vector<Volume> volumes;
  for (const std::vector<Candidate>& stack : split.stacks) {
    volumes.push_back(JudgeStack(stack));
    volumes.back().reasons.push_back(
        MakeReason("SPLIT_BY", split.by,
                   absl::StrCat("volume ", volumes.size(), " of ", split.stacks.size(), " in its series")));
  }
  return volumes;
}

// Several stacks of an enhanced image may lie beside each other.
StackSplit SplitByStackId(const std::vector<Candidate>& slices) {
  std::map<std::string, std::vector<Candidate>> by_id;
  for (const Candidate& slice : slices) {
    by_id[slice.functional != nullptr ? slice.functional->stack_id() : ""].push_back(slice);
  }
  StackSplit split;
  if (by_id.size() < 2) return split;
  split.by = "stack_id";
  for (auto& [id, stack] : by_id) split.stacks.push_back(std::move(stack));
  return split;
}

}  // namespace

std::vector<Volume> BuildStacks(const std::vector<Candidate>& slices) {
  const std::vector<std::uint32_t> places = PlacesOf(slices);
  const std::uint32_t distinct = *std::max_element(places.begin(), places.end()) + 1;
  if (distinct == slices.size()) {
    std::vector<Volume> one{JudgeStack(slices)};
    if (AllAccepted(one)) return one;
    std::vector<Volume> several = JudgeStacks(SplitByStackId(slices));
    return !several.empty() && AllAccepted(several) ? several : one;
  }
  std::vector<Volume> volumes = JudgeStacks(SplitStacks(slices, places));
  if (!volumes.empty()) return volumes;
  const bool phases = std::any_of(slices.begin(), slices.end(), [&](const Candidate& slice) {
    return slice.TriggerTimeMs() != slices.front().TriggerTimeMs();
  });
  if (phases) {
    std::vector<std::uint32_t> at_place(distinct);
    for (const std::uint32_t place : places) ++at_place[place];
    return {RejectedVolume(
        slices, MakeReason("MULTI_PHASE", absl::StrCat(*std::max_element(at_place.begin(), at_place.end())),
                           "several phases at a position, and not all of them complete"))};
  }
  return {RejectedVolume(slices, MakeReason("DUPLICATE_POSITIONS", absl::StrCat(slices.size() - distinct),
                                            "slices share a position and no attribute tells them apart"))};
}

void Reject(Volume& volume, tomoserve::v1::Reason reason) {
  volume.verdict = Verdict::kReject;
  // An ACCEPT's remarks come after what rejects it.
  volume.reasons.insert(volume.reasons.begin(), std::move(reason));
  std::erase_if(volume.slices, [](const VolumeSlice& slice) { return slice.synthetic.has_value(); });
  for (VolumeSlice& slice : volume.slices) slice.shift_ij = {};
}

Volume RejectedVolume(const std::vector<Candidate>& slices, tomoserve::v1::Reason reason) {
  Volume volume;
  FillSlices(slices, volume);
  volume.verdict = Verdict::kReject;
  volume.reasons.push_back(std::move(reason));
  return volume;
}

void BuildVolumes(const std::vector<Known>& instances, Series& series) {
  SortedInstances sorted = SortOut(instances);
  Clusters clusters = Cluster(std::move(sorted.candidates));
  const Strays strays = TakeStrays(clusters);
  std::vector<std::vector<Candidate>>& stacks = clusters.groups;

  std::vector<SetAside> fatal = sorted.fatal;
  if (!stacks.empty()) {
    for (const auto& [code, count] : strays.codes) {
      fatal.push_back({count, MakeReason(code, absl::StrCat(count), "slices that differ from the stack's")});
    }
  }
  series.set_aside.insert(series.set_aside.end(), sorted.harmless.begin(), sorted.harmless.end());

  for (std::vector<Candidate>& stack : stacks) {
    const std::uint32_t conflicts = DropConflicting(stack);
    for (Volume& volume : BuildStacks(stack)) {
      for (const SetAside& entry : fatal) Reject(volume, entry.reason);
      if (conflicts > 0) {
        Reject(volume, MakeReason("DUPLICATE_CONFLICT", absl::StrCat(conflicts),
                                  "one SOP Instance UID with two contents"));
      }
      series.volumes.push_back(std::move(volume));
    }
  }
  if (stacks.empty() && !strays.slices.empty()) {
    Volume volume = RejectedVolume(strays.slices,
                                   MakeReason(strays.codes.begin()->first, absl::StrCat(strays.slices.size()),
                                              "no two slices belong together"));
    for (const SetAside& entry : fatal) Reject(volume, entry.reason);
    series.volumes.push_back(std::move(volume));
  }
  if (stacks.empty() && strays.slices.empty() && !sorted.defective.empty()) {
    // All of it is a volume of its own: nothing was set aside.
    Volume volume = RejectedVolume(sorted.defective, fatal.front().reason);
    for (std::size_t entry = 1; entry < fatal.size(); ++entry) volume.reasons.push_back(fatal[entry].reason);
    series.volumes.push_back(std::move(volume));
  } else {
    series.set_aside.insert(series.set_aside.end(), fatal.begin(), fatal.end());
  }
  for (const auto& [why, entry] : sorted.hopeless) {
    const auto& [code, uid] = why;
    series.volumes.push_back(
        RejectedVolume(entry.instances, MakeReason(code, uid.empty() ? absl::StrCat(entry.amount) : uid,
                                                   "no slices can be made of these instances")));
  }
}

}  // namespace tomoserve::series
