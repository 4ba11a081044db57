// From the instances of one series to stacks of like slices. PS3.3 C.7.6.2 (plane), C.8.2.1 (CT), C.8.3.1
// (MR).
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "series/internal.h"

namespace tomoserve::series {
namespace {

using Header = ipc::v1::InstanceHeader;

constexpr char kCtImage[] = "1.2.840.10008.5.1.4.1.1.2";
constexpr char kMrImage[] = "1.2.840.10008.5.1.4.1.1.4";

// Cosines this close are the same orientation (0.06 degrees).
constexpr double kOrientationTolerance = 1e-3;
// Length and right angle of the two cosines.
constexpr double kUnitTolerance = 1e-2;
constexpr double kOrthogonalTolerance = 1e-3;
// Beyond these no patient was measured: bounds that keep arithmetic on hostile headers finite, mm.
constexpr double kMaxPositionMm = 1e6;
constexpr double kMinPixelMm = 1e-4;
constexpr double kMaxPixelMm = 1e3;
// Pixel spacings this close (relative) are the same.
constexpr double kSpacingTolerance = 1e-4;
// A group beside others needs this many slices to be a stack of its own, not a stray of another.
constexpr std::size_t kStackSlices = 3;

bool HasImageType(const Header& header, std::string_view wanted) {
  return std::any_of(header.image_type().begin(), header.image_type().end(), [&](const std::string& value) {
    return absl::AsciiStrToUpper(absl::StripAsciiWhitespace(value)) == wanted;
  });
}

// Why an instance is not a slice, without blame for the series' volumes.
std::optional<tomoserve::v1::Reason> Harmless(const Header& header) {
  if (header.written_by_tomoserve()) {
    return MakeReason("OWN_OBJECT", "", "a result object of this software");
  }
  if (header.kind() == ipc::v1::OBJECT_KIND_PICTURE) {
    return MakeReason("PICTURE", "", "colour, palette, 1-bit or secondary capture");
  }
  if (header.kind() != ipc::v1::OBJECT_KIND_IMAGE) {
    return MakeReason("NOT_AN_IMAGE", "", "no image of a modality");
  }
  if (HasImageType(header, "LOCALIZER") || HasImageType(header, "SCOUT")) {
    return MakeReason("LOCALIZER", "", "Image Type says localizer");
  }
  return std::nullopt;
}

bool Within(const google::protobuf::RepeatedField<double>& values, double min, double max) {
  return std::all_of(values.begin(), values.end(),
                     [&](double value) { return value >= min && value <= max; });
}

// Why an image that should be a slice cannot be placed or read; fills `out` where it can.
std::optional<tomoserve::v1::Reason> Defect(const Known& known, Candidate& out) {
  const Header& header = known.instance->header;
  if (!header.has_pixels()) return MakeReason("NO_PIXELS", "", "Pixel Data is missing");
  if (header.stored_type() == ipc::v1::STORED_TYPE_UNSPECIFIED || header.rows() == 0 ||
      header.columns() == 0) {
    return MakeReason("PIXELS_UNSUPPORTED", "", "the pixel format cannot be part of a volume");
  }
  if (header.image_position_size() != 3 || header.image_orientation_size() != 6 ||
      !Within(header.image_position(), -kMaxPositionMm, kMaxPositionMm)) {
    return MakeReason("NO_POSITION", "",
                      "Image Position or Image Orientation (Patient) is missing or no number");
  }
  out.known = known;
  for (int axis = 0; axis < 3; ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    out.position[at] = header.image_position(axis);
    out.row[at] = header.image_orientation(axis);
    out.column[at] = header.image_orientation(axis + 3);
  }
  const double row_length = Length(out.row);
  const double column_length = Length(out.column);
  // Written so that NaN fails.
  if (!(std::abs(row_length - 1) <= kUnitTolerance && std::abs(column_length - 1) <= kUnitTolerance)) {
    return MakeReason("ORIENTATION_INVALID", "", "the direction cosines are not unit vectors");
  }
  out.row = Times(out.row, 1 / row_length);
  out.column = Times(out.column, 1 / column_length);
  if (std::abs(Dot(out.row, out.column)) > kOrthogonalTolerance) {
    return MakeReason("ORIENTATION_INVALID", "", "the direction cosines are not at a right angle");
  }
  if (header.pixel_spacing_mm_size() != 2 || !Within(header.pixel_spacing_mm(), kMinPixelMm, kMaxPixelMm)) {
    return MakeReason("NO_SPACING", "", "Pixel Spacing is missing or not positive");
  }
  out.row_spacing = header.pixel_spacing_mm(0);
  out.column_spacing = header.pixel_spacing_mm(1);
  return std::nullopt;
}

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
  if (x.rows() != y.rows() || x.columns() != y.columns()) return "MIXED_MATRIX";
  if (!NearSpacing(a.row_spacing, b.row_spacing) || !NearSpacing(a.column_spacing, b.column_spacing)) {
    return "MIXED_SPACING";
  }
  return nullptr;
}

// Counts by code, in order of code.
class SetAsideCounts {
 public:
  void Add(const tomoserve::v1::Reason& reason) {
    SetAside& entry = entries_[reason.code()];
    if (entry.count++ == 0) entry.reason = reason;
  }
  void AppendTo(std::vector<SetAside>& out) const {
    for (const auto& [code, entry] : entries_) {
      out.push_back(entry);
      out.back().reason.set_value(absl::StrCat(entry.count));
    }
  }

 private:
  std::map<std::string, SetAside> entries_;
};

struct Sorted {
  std::vector<Candidate> candidates;
  std::vector<Known> defective;
  std::vector<Known> enhanced;
  std::vector<Known> mosaic;
  std::map<std::string, std::vector<Known>> other_classes;  // by SOP Class UID
  SetAsideCounts harmless;
  SetAsideCounts fatal;
};

Sorted SortOut(const std::vector<Known>& instances) {
  Sorted sorted;
  for (const Known& known : instances) {
    const Header& header = known.instance->header;
    if (const auto reason = Harmless(header)) {
      sorted.harmless.Add(*reason);
      continue;
    }
    const bool classic = header.sop_class_uid().empty() || header.sop_class_uid() == kCtImage ||
                         header.sop_class_uid() == kMrImage;
    if (header.frames() > 1 || header.sop_class_uid().rfind(absl::StrCat(kCtImage, "."), 0) == 0 ||
        header.sop_class_uid().rfind(absl::StrCat(kMrImage, "."), 0) == 0) {
      sorted.enhanced.push_back(known);
    } else if (!classic || (header.modality() != "CT" && header.modality() != "MR")) {
      sorted.other_classes[header.sop_class_uid()].push_back(known);
    } else if (HasImageType(header, "MOSAIC")) {
      sorted.mosaic.push_back(known);
    } else {
      Candidate candidate;
      if (const auto reason = Defect(known, candidate)) {
        sorted.fatal.Add(*reason);
        sorted.defective.push_back(known);
      } else {
        sorted.candidates.push_back(std::move(candidate));
      }
    }
  }
  return sorted;
}

std::vector<std::vector<Candidate>> Cluster(std::vector<Candidate> candidates) {
  std::vector<std::vector<Candidate>> clusters;
  for (Candidate& candidate : candidates) {
    const auto home =
        std::find_if(clusters.begin(), clusters.end(), [&](const std::vector<Candidate>& cluster) {
          return Difference(cluster.front(), candidate) == nullptr;
        });
    if (home == clusters.end()) {
      clusters.push_back({std::move(candidate)});
    } else {
      home->push_back(std::move(candidate));
    }
  }
  // The biggest first; equal ones stay in the order of their smallest SOP UID.
  std::stable_sort(clusters.begin(), clusters.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  return clusters;
}

// One content per SOP UID; says how many UIDs had two.
std::uint32_t DropConflicting(std::vector<Candidate>& slices) {
  std::set<std::string> conflicting;
  std::vector<Candidate> kept;
  for (Candidate& slice : slices) {
    if (slice.known.conflict && !conflicting.insert(slice.known.sop_instance_uid).second) continue;
    kept.push_back(std::move(slice));
  }
  slices = std::move(kept);
  return static_cast<std::uint32_t>(conflicting.size());
}

void Reject(Volume& volume, tomoserve::v1::Reason reason) {
  volume.verdict = Verdict::kReject;
  // An ACCEPT's remarks come after what rejects it.
  volume.reasons.insert(volume.reasons.begin(), std::move(reason));
}

}  // namespace

Volume RejectedVolume(const std::vector<Known>& slices, tomoserve::v1::Reason reason) {
  Volume volume;
  volume.verdict = Verdict::kReject;
  volume.reasons.push_back(std::move(reason));
  for (const Known& known : slices) {
    const Header& header = known.instance->header;
    volume.slices.push_back({known.instance->index, 0, header.stored_type(),
                             header.has_rescale_slope() ? header.rescale_slope() : 1,
                             header.has_rescale_intercept() ? header.rescale_intercept() : 0,
                             known.sop_instance_uid});
  }
  if (!slices.empty()) volume.representative = slices.front().instance->header;
  return volume;
}

void BuildVolumes(const std::vector<Known>& instances, Series& series) {
  Sorted sorted = SortOut(instances);

  std::vector<std::vector<Candidate>> clusters = Cluster(std::move(sorted.candidates));
  std::vector<std::vector<Candidate>> stacks;
  std::vector<Known> strays;
  std::map<std::string, std::uint32_t> stray_codes;
  for (std::vector<Candidate>& cluster : clusters) {
    if (clusters.size() > 1 && cluster.size() < kStackSlices) {
      // Against the biggest group; the biggest itself against the next.
      const Candidate& other = &cluster == &clusters.front() ? clusters[1].front() : clusters.front().front();
      const std::string code = Difference(cluster.front(), other);
      stray_codes[code] += static_cast<std::uint32_t>(cluster.size());
      for (const Candidate& slice : cluster) strays.push_back(slice.known);
    } else {
      stacks.push_back(cluster);
    }
  }

  std::vector<SetAside> fatal;
  sorted.fatal.AppendTo(fatal);
  if (!stacks.empty()) {
    for (const auto& [code, count] : stray_codes) {
      fatal.push_back({count, MakeReason(code, absl::StrCat(count), "slices that differ from the stack's")});
    }
  }
  sorted.harmless.AppendTo(series.set_aside);
  series.set_aside.insert(series.set_aside.end(), fatal.begin(), fatal.end());

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
  if (stacks.empty() && !strays.empty()) {
    std::uint32_t count = 0;
    for (const auto& entry : stray_codes) count += entry.second;
    Volume volume = RejectedVolume(
        strays, MakeReason(stray_codes.begin()->first, absl::StrCat(count), "no two slices belong together"));
    for (const SetAside& entry : fatal) Reject(volume, entry.reason);
    series.volumes.push_back(std::move(volume));
  }
  if (stacks.empty() && strays.empty() && !sorted.defective.empty()) {
    Volume volume = RejectedVolume(sorted.defective, fatal.front().reason);
    for (std::size_t entry = 1; entry < fatal.size(); ++entry) volume.reasons.push_back(fatal[entry].reason);
    // All of it is a volume of its own: nothing was set aside.
    std::erase_if(series.set_aside, [&](const SetAside& aside) {
      return std::any_of(fatal.begin(), fatal.end(),
                         [&](const SetAside& entry) { return entry.reason.code() == aside.reason.code(); });
    });
    series.volumes.push_back(std::move(volume));
  }
  if (!sorted.enhanced.empty()) {
    std::uint64_t frames = 0;
    for (const Known& known : sorted.enhanced) frames += std::max(1u, known.instance->header.frames());
    series.volumes.push_back(
        RejectedVolume(sorted.enhanced, MakeReason("ENHANCED_MULTIFRAME", absl::StrCat(frames),
                                                   "multi-frame instances are not read as volumes")));
  }
  if (!sorted.mosaic.empty()) {
    series.volumes.push_back(RejectedVolume(
        sorted.mosaic,
        MakeReason("MOSAIC", absl::StrCat(sorted.mosaic.size()), "mosaics are not read as volumes")));
  }
  for (const auto& [uid, known] : sorted.other_classes) {
    series.volumes.push_back(RejectedVolume(
        known, MakeReason("SOP_CLASS_UNSUPPORTED", uid, "only CT and MR images are read as volumes")));
  }
}

}  // namespace tomoserve::series
