// What the parts of the room share: prepared slices and small helpers. Private to the room.
#pragma once

#include <array>
#include <cmath>
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

// One instance with its effective SOP UID (derived where the header has none).
struct Known {
  const Instance* instance = nullptr;
  std::string sop_instance_uid;
  bool conflict = false;  // another content has the same SOP UID
};

// An instance that could be a slice, with its place. Vectors are unit vectors.
struct Candidate {
  Known known;
  Vector3 position{};
  Vector3 row{};              // direction of increasing column number
  Vector3 column{};           // direction of increasing row number
  double row_spacing = 0;     // PixelSpacing[0]: distance between rows, along `column`
  double column_spacing = 0;  // PixelSpacing[1]: distance between columns, along `row`

  const ipc::v1::InstanceHeader& header() const { return known.instance->header; }
};

// Identity: removes duplicates, marks conflicts, in an order that depends on contents only.
std::vector<Known> UniqueInstances(const std::vector<Instance>& instances);

// Fills ref, notices and identity_conflict. `study` gets the study's UID, derived where there is none.
void DescribeStudy(const std::vector<Known>& instances, StudySeries& study);

// Effective Series Instance UID.
std::string SeriesUidOf(const Known& known, const std::string& study_uid);

// Sorts the instances of one series into set-aside ones and volumes.
void BuildVolumes(const std::vector<Known>& instances, Series& series);

// Splits slices of one orientation, matrix and spacing into stacks in which no position repeats, and judges
// each. Several stacks where an attribute tells them apart; else one REJECT volume.
std::vector<Volume> BuildStacks(const std::vector<Candidate>& slices);

// Sorts by position and judges one stack.
Volume JudgeStack(const std::vector<Candidate>& slices);

// A REJECT volume without geometry that lists `slices` in the given order.
Volume RejectedVolume(const std::vector<Known>& slices, tomoserve::v1::Reason reason);

// The slices of a volume and its representative header (worst lossy ratio of all).
void FillSlices(const std::vector<Candidate>& slices, Volume& volume);

}  // namespace tomoserve::series
