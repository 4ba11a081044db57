// What the parts of the room share: prepared slices and small helpers. Private to the room.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tomoserve/base/reason.h"
#include "tomoserve/series/study_series.h"

namespace tomoserve::series {

using Vector3 = std::array<double, 3>;

inline double Dot(const Vector3& a, const Vector3& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
inline double Length(const Vector3& a) { return std::sqrt(Dot(a, a)); }
inline Vector3 Minus(const Vector3& a, const Vector3& b) { return {a[0] - b[0], a[1] - b[1], a[2] - b[2]}; }
inline Vector3 Times(const Vector3& a, double factor) {
  // + 0.0 turns a negative zero into zero: directions are shown and compared as text.
  return {a[0] * factor + 0.0, a[1] * factor + 0.0, a[2] * factor + 0.0};
}
inline Vector3 Cross(const Vector3& a, const Vector3& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

using base::MakeReason;
using Header = ipc::v1::InstanceHeader;

// One instance with its effective SOP UID (derived where the header has none).
struct Known {
  const Instance* instance = nullptr;
  std::string sop_instance_uid;
  bool conflict = false;  // another content has the same SOP UID
};

// A frame (of a classic instance its only one, of a mosaic a tile) that could be a slice, with its place.
// Vectors are unit vectors. `known` outlives it.
struct Candidate {
  const Known* known = nullptr;
  std::uint32_t frame = 0;                           // from 0
  const ipc::v1::FrameHeader* functional = nullptr;  // of an enhanced instance
  std::shared_ptr<const ipc::v1::InstanceHeader>
      unframed;  // of an enhanced one: its header without the frames
  std::optional<ipc::v1::Tile> tile;
  Vector3 position{};
  Vector3 row{};              // direction of increasing column number
  Vector3 column{};           // direction of increasing row number
  double row_spacing = 0;     // PixelSpacing[0]: distance between rows, along `column`
  double column_spacing = 0;  // PixelSpacing[1]: distance between columns, along `row`

  const ipc::v1::InstanceHeader& header() const {
    return unframed != nullptr ? *unframed : known->instance->header;
  }
  std::uint32_t rows() const { return tile ? tile->rows() : header().rows(); }
  std::uint32_t columns() const { return tile ? tile->columns() : header().columns(); }
  // What the frame says: its functional groups, or the header of a classic instance.
  std::optional<double> RescaleSlope() const;
  std::optional<double> RescaleIntercept() const;
  const std::string& RescaleType() const;
  std::optional<double> TriggerTimeMs() const;
  std::optional<double> SliceThicknessMm() const;
  // Of an enhanced instance its own, where the functional groups say nothing.
  std::optional<double> Kvp() const;
  const std::string& ConvolutionKernel() const;
  // Body Part Examined, or of an enhanced instance without it the frame's anatomic region.
  const std::string& BodyPart() const;
  // HHMMSS.FFFFFF; of an enhanced instance the frame's alone.
  std::string AcquisitionTime() const;
  const google::protobuf::RepeatedPtrField<std::string>& ImageType() const;
};

// Instances no slices can be made of, for one reason.
struct Hopeless {
  std::uint64_t amount = 0;  // of instances, or of their frames
  std::vector<Candidate> instances;
};

// The instances of one series, sorted out.
struct SortedInstances {
  std::vector<Candidate> candidates;                                 // that can be placed and read
  std::vector<Candidate> defective;                                  // that cannot; counted in `fatal`
  std::map<std::pair<std::string, std::string>, Hopeless> hopeless;  // by code and, of some, SOP Class UID
  std::vector<SetAside> harmless;                                    // in order of code
  std::vector<SetAside> fatal;                                       // in order of code
};

// `instances` outlive the result.
SortedInstances SortOut(const std::vector<Known>& instances);

bool HasImageType(const google::protobuf::RepeatedPtrField<std::string>& values, std::string_view wanted);

// Identity: removes duplicates, marks conflicts, in an order that depends on contents only.
std::vector<Known> UniqueInstances(const std::vector<Instance>& instances);

// Fills ref, notices and identity_conflict. `study` gets the study's UID, derived where there is none.
void DescribeStudy(const std::vector<Known>& instances, StudySeries& study);

// Effective Series Instance UID.
std::string SeriesUidOf(const Known& known, const std::string& study_uid);

// Sorts the instances of one series into set-aside ones and volumes.
void BuildVolumes(const std::vector<Known>& instances, Series& series);

// Splits slices of one orientation, matrix and spacing into stacks in which no position repeats, and judges
// each. Several stacks where something tells them apart; else one REJECT volume. `slices` is not empty.
std::vector<Volume> BuildStacks(const std::vector<Candidate>& slices);

// Sorts by position and judges one stack.
Volume JudgeStack(const std::vector<Candidate>& slices);

// One of several stacks at the same places.
struct SplitStack {
  std::vector<Candidate> slices;
  // As of the Volume that becomes of it.
  std::uint32_t stack = 0;
  std::uint32_t time_point = 0;
};

// Which stack each of some slices belongs to, so that no position repeats in a stack. `by` names the
// attributes that tell them apart.
struct StackSplit {
  std::vector<SplitStack> stacks;
  std::string by;
};

// Empty `stacks` where nothing tells them apart. `places` gives each slice's position as a number, the same
// for slices at the same position.
StackSplit SplitStacks(const std::vector<Candidate>& slices, const std::vector<std::uint32_t>& places);

// Makes a volume REJECT: what was interpolated or shifted becomes what was stored again. `reason` comes
// first.
void Reject(Volume& volume, tomoserve::v1::Reason reason);

// The same while a volume is being judged: after what rejects it already, and before any remark.
void RejectFor(Volume& volume, std::string_view code, std::string_view value, std::string_view text);

// A REJECT volume without geometry that lists `slices` in the given order.
Volume RejectedVolume(const std::vector<Candidate>& slices, tomoserve::v1::Reason reason);

// The slices of a volume and its representative header (worst lossy ratio of all).
void FillSlices(const std::vector<Candidate>& slices, Volume& volume);

// What the stored values mean: rescale, unit, lossy compression.
void JudgeValues(const std::vector<Candidate>& slices, Volume& volume);

}  // namespace tomoserve::series
