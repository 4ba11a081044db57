// From the frames of one series to stacks of like slices.
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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
// Slices whose positions differ by less are at the same place, mm.
constexpr double kSamePositionMm = 0.01;
// Groups whose normals are closer (2 degrees) may be pieces of one stack, where the gap between them is no
// more than so many steps.
constexpr double kParallelCosine = 0.99939;
constexpr double kAdjoiningSteps = 1.5;
// Slices of two groups this close (share of a step) are at the same place.
constexpr double kSamePlaceShare = 0.1;

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

// Where the slices of a group lie along a normal, mm: each place once, ascending.
std::vector<double> PlacesAlong(const std::vector<Candidate>& slices, const Vector3& normal) {
  std::vector<double> places;
  for (const Candidate& slice : slices) places.push_back(Dot(slice.position, normal));
  std::sort(places.begin(), places.end());
  places.erase(
      std::unique(places.begin(), places.end(), [](double a, double b) { return b - a < kSamePositionMm; }),
      places.end());
  return places;
}

double MedianStep(const std::vector<double>& places) {
  std::vector<double> steps;
  for (std::size_t n = 1; n < places.size(); ++n) steps.push_back(places[n] - places[n - 1]);
  if (steps.empty()) return 0;
  std::nth_element(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>((steps.size() - 1) / 2),
                   steps.end());
  return steps[(steps.size() - 1) / 2];
}

// Whether two groups of parallel slices may be one stack that fell apart: their extents along the normal
// overlap or adjoin. Groups that have their slices at the same places are two complete stacks.
bool AreOneStackInPieces(const std::vector<Candidate>& a, const std::vector<Candidate>& b) {
  const auto normal_of = [](const Candidate& slice) {
    const Vector3 normal = Cross(slice.row, slice.column);
    return Times(normal, 1 / Length(normal));
  };
  const Vector3 normal = normal_of(a.front());
  if (std::abs(Dot(normal, normal_of(b.front()))) < kParallelCosine) return false;
  std::vector<double> fewer = PlacesAlong(a, normal);
  std::vector<double> more = PlacesAlong(b, normal);
  const double step = std::max(MedianStep(fewer), MedianStep(more));
  const double gap = std::max(fewer.front() - more.back(), more.front() - fewer.back());
  if (gap > kAdjoiningSteps * step) return false;
  if (fewer.size() > more.size()) std::swap(fewer, more);
  const double tolerance = kSamePlaceShare * step + kSamePositionMm;
  return !std::all_of(fewer.begin(), fewer.end(), [&](double place) {
    const auto next = std::lower_bound(more.begin(), more.end(), place - tolerance);
    return next != more.end() && *next <= place + tolerance;
  });
}

// What the groups of one series are to each other, for each group.
struct Siblings {
  std::map<std::string, std::uint32_t> mixed;  // code and slices of the groups it may be one stack with
  std::set<std::string> split_by;              // what sets it apart from the others
};

std::vector<Siblings> CompareGroups(const std::vector<std::vector<Candidate>>& groups) {
  std::vector<Siblings> siblings(groups.size());
  for (std::size_t a = 0; a < groups.size(); ++a) {
    for (std::size_t b = a + 1; b < groups.size(); ++b) {
      const std::string code = Difference(groups[a].front(), groups[b].front());
      const std::string attribute = absl::AsciiStrToLower(code.substr(std::strlen("MIXED_")));
      siblings[a].split_by.insert(attribute);
      siblings[b].split_by.insert(attribute);
      if (!AreOneStackInPieces(groups[a], groups[b])) continue;
      siblings[a].mixed[code] += static_cast<std::uint32_t>(groups[b].size());
      siblings[b].mixed[code] += static_cast<std::uint32_t>(groups[a].size());
    }
  }
  return siblings;
}

bool AllAccepted(const std::vector<Volume>& volumes) {
  return std::all_of(volumes.begin(), volumes.end(),
                     [](const Volume& volume) { return volume.verdict == Verdict::kAccept; });
}

std::vector<Volume> JudgeStacks(const StackSplit& split) {
  std::vector<Volume> volumes;
  for (const SplitStack& stack : split.stacks) {
    Volume& volume = volumes.emplace_back(JudgeStack(stack.slices));
    volume.reasons.push_back(MakeReason("SPLIT_BY", split.by, "one of several volumes"));
    volume.stack = stack.stack;
    volume.time_point = stack.time_point;
  }
  return volumes;
}

// Adds what sets a group's volume apart from those of other groups to what sets it apart within its own.
void SplitFromSiblings(const Siblings& siblings, Volume& volume) {
  for (const auto& [code, count] : siblings.mixed) {
    Reject(volume, MakeReason(code, absl::StrCat(count),
                              "other slices of the series lie between or next to these and differ"));
  }
  if (siblings.split_by.empty()) return;
  const std::string by = absl::StrJoin(siblings.split_by, ",");
  for (tomoserve::v1::Reason& reason : volume.reasons) {
    if (reason.code() != "SPLIT_BY") continue;
    reason.set_value(absl::StrCat(by, ",", reason.value()));
    return;
  }
  volume.reasons.push_back(MakeReason("SPLIT_BY", by, "one of several volumes"));
}

// One more than the largest number that a stack has.
std::uint32_t StackCount(const std::vector<Volume>& volumes) {
  std::uint32_t count = 0;
  for (const Volume& volume : volumes) count = std::max(count, volume.stack + 1);
  return count;
}

// Adds a volume that is no time point of any other.
void AddAlone(Volume volume, std::vector<Volume>& volumes) {
  volume.stack = StackCount(volumes);
  volume.time_point = 0;
  volumes.push_back(std::move(volume));
}

// Says which of how many volumes each is.
void NumberVolumes(std::vector<Volume>& volumes) {
  for (std::size_t n = 0; n < volumes.size(); ++n) {
    for (tomoserve::v1::Reason& reason : volumes[n].reasons) {
      if (reason.code() != "SPLIT_BY") continue;
      reason.set_text(absl::StrCat("volume ", n + 1, " of ", volumes.size(), " in its series"));
    }
  }
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
  for (auto& [id, stack] : by_id) {
    split.stacks.push_back({std::move(stack), static_cast<std::uint32_t>(split.stacks.size()), 0});
  }
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
  volume.reasons.insert(volume.reasons.begin(), std::move(reason));
  ++volume.rejecting;
  std::erase_if(volume.slices, [](const VolumeSlice& slice) { return slice.synthetic.has_value(); });
  for (VolumeSlice& slice : volume.slices) slice.shift_ij = {};
}

void RejectFor(Volume& volume, std::string_view code, std::string_view value, std::string_view text) {
  volume.verdict = Verdict::kReject;
  volume.reasons.insert(volume.reasons.begin() + volume.rejecting, MakeReason(code, value, text));
  ++volume.rejecting;
}

Volume RejectedVolume(const std::vector<Candidate>& slices, tomoserve::v1::Reason reason) {
  Volume volume;
  FillSlices(slices, volume);
  Reject(volume, std::move(reason));
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

  const std::vector<Siblings> siblings = CompareGroups(stacks);
  for (std::size_t n = 0; n < stacks.size(); ++n) {
    const std::uint32_t conflicts = DropConflicting(stacks[n]);
    const std::uint32_t first_stack = StackCount(series.volumes);
    for (Volume& volume : BuildStacks(stacks[n])) {
      volume.stack += first_stack;
      SplitFromSiblings(siblings[n], volume);
      for (const SetAside& entry : fatal) Reject(volume, entry.reason);
      if (conflicts > 0) {
        Reject(volume, MakeReason("DUPLICATE_CONFLICT", absl::StrCat(conflicts),
                                  "one SOP Instance UID with two contents"));
      }
      series.volumes.push_back(std::move(volume));
    }
  }
  NumberVolumes(series.volumes);
  if (stacks.empty() && !strays.slices.empty()) {
    Volume volume = RejectedVolume(strays.slices,
                                   MakeReason(strays.codes.begin()->first, absl::StrCat(strays.slices.size()),
                                              "no two slices belong together"));
    for (const SetAside& entry : fatal) Reject(volume, entry.reason);
    AddAlone(std::move(volume), series.volumes);
  }
  if (stacks.empty() && strays.slices.empty() && !sorted.defective.empty()) {
    // All of it is a volume of its own: nothing was set aside.
    Volume volume = RejectedVolume(sorted.defective, fatal.back().reason);
    for (std::size_t entry = fatal.size() - 1; entry > 0; --entry) Reject(volume, fatal[entry - 1].reason);
    AddAlone(std::move(volume), series.volumes);
  } else {
    series.set_aside.insert(series.set_aside.end(), fatal.begin(), fatal.end());
  }
  // What no slices can be made of is shown as a volume of its own; it may be part of any other.
  const std::size_t readable = series.volumes.size();
  for (const auto& [why, entry] : sorted.hopeless) {
    const auto& [code, uid] = why;
    const tomoserve::v1::Reason reason =
        MakeReason(code, uid.empty() ? absl::StrCat(entry.amount) : uid,
                   code == "SOP_CLASS_UNSUPPORTED"
                       ? "instances whose SOP Class and Modality are not those of one kind of slices"
                       : "no slices can be made of some instances");
    for (std::size_t n = 0; n < readable; ++n) Reject(series.volumes[n], reason);
    AddAlone(RejectedVolume(entry.instances, reason), series.volumes);
  }
}

}  // namespace tomoserve::series
