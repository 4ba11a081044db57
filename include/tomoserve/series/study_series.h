// From instance headers to series and volumes: pure functions, no I/O. Rules: DICOM.md of the design notes,
// docs/GEOMETRY.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tomoserve/ipc/v1/dicom.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/study.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::series {

// One instance as the caller has it: `index` is the caller's own number (e.g. its row or file), returned in
// slices; `content_sha256` is the digest of the file's bytes.
struct Instance {
  std::uint32_t index = 0;
  std::string content_sha256;
  ipc::v1::InstanceHeader header;
};

enum class Verdict { kAccept, kResample, kReject };

// A slice that is interpolated because it is missing: (1 - weight) * slices[before] + weight * slices[after],
// both acquired ones.
struct Synthetic {
  std::uint32_t before = 0;
  std::uint32_t after = 0;
  double weight = 0;  // in (0, 1)
};

// One slice of a volume: frame `frame` of instance `index`, or of a mosaic its tile;
// value = stored * slope + intercept.
struct VolumeSlice {
  std::uint32_t index = 0;
  std::uint32_t frame = 0;
  ipc::v1::StoredType stored_type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  double slope = 1;
  double intercept = 0;
  std::string sop_instance_uid;
  std::optional<ipc::v1::Tile> tile;
  // kResample: pixel (i, j) of the grid is at (i - shift_ij[0], j - shift_ij[1]) of the stored slice; >= 0.
  std::array<double, 2> shift_ij{};
  // kResample: nothing was stored here. The fields above but shift_ij are those of the nearer neighbour.
  std::optional<Synthetic> synthetic;
};

// A candidate volume. `geometry` is absent where the verdict is kReject and none could be computed.
//
// kResample, each code with its number as `value`; `geometry` is the corrected grid, with one entry of
// `slices` for each of its slices:
//   GANTRY_TILT(deg; CT): the slices are shifted in their planes onto a grid with a right angle (a shear),
//     large enough for all of them.
//   MISSING_SLICES(n; the text says where): every step between slices is a multiple of the median; what is
//     missing is interpolated between its neighbours. Whether a run may use such a volume its recipe says.
// Codes of kReject, each with its number as `value`:
//   MISSING_SLICES(n) where more are missing than there are, GANTRY_TILT(deg) beyond 45 or with shifts larger
//   than an image, SHEAR(deg; not CT), UNEVEN_SPACING(min,median,max mm), DUPLICATE_POSITIONS(n),
//   MULTI_PHASE(n; phases incomplete or mixed), DUPLICATE_CONFLICT(SOP UIDs with two contents),
//   MIXED_ORIENTATION(n stray slices, or n of another group that interleaves or adjoins), MIXED_MATRIX,
//   MIXED_SPACING, MIXED_FRAME_OF_REFERENCE, MIXED_MODALITY (same), MIXED_UNITS (PT), SHIFTED_SLICES(n; off
//   the stack's line), TOO_FEW_SLICES(n < 2), TOO_MANY_SLICES(n), MIXED_RESCALE(n without slope
//   or intercept), RESCALE_INVALID(n; 0, no float, or of a CT one of the two in all slices), NO_POSITION(n),
//   NO_SPACING(n), ORIENTATION_INVALID(n), NO_PIXELS(n), PIXELS_UNSUPPORTED(n), NO_FUNCTIONAL_GROUPS(frames),
//   FRAMES_INCONSISTENT(n), MOSAIC(n; without a readable CSA header), MOSAIC_INVALID(n),
//   SOP_CLASS_UNSUPPORTED(UID; or another modality's), GEOMETRY_INVALID(field).
// Codes that may stand on any verdict: NO_RESCALE (CT without slope and intercept: 1 and 0 are used),
// GANTRY_TILT_UNCONFIRMED(deg; CT: the header states a tilt that neither plane nor stack shows),
// NOT_HU(what the values are instead, where that is known), LOSSY(ratio, where it is known),
// SPLIT_BY(attributes; one of several volumes of its series, by what its group of slices differs in, then by
// what tells stacks of a group apart).
struct Volume {
  Verdict verdict = Verdict::kReject;
  // What rejects it comes first, then what makes it kResample and what may stand on any verdict.
  std::vector<tomoserve::v1::Reason> reasons;
  std::uint32_t rejecting = 0;  // so many of `reasons` reject it
  std::optional<volume::Geometry> geometry;
  // kResample: the slices' own grid, before they are shifted: k runs along the slices' normal, and what is
  // missing counts.
  std::optional<volume::Geometry> acquired;
  std::vector<VolumeSlice> slices;  // k ascending along row x column
  // Columns and rows of a stored slice; `geometry` may have more.
  std::array<std::uint32_t, 2> stored_size_ij{};
  // What the values are: "HU"; of PT the term of Units (0054,1001), e.g. "BQML", or "GML" for a standardised
  // uptake value; of MR, and where nothing says, empty. PT that is stored in Bq/ml is not turned into SUV.
  std::string unit;
  // Header of the first slice, for selection (modality, image type, kernel, ...), with what its frame's
  // functional groups say in the fields of the same meaning and without the frames; lossy and lossy_ratio are
  // the worst of all slices. Holds patient data like any header.
  ipc::v1::InstanceHeader representative;
  // Volumes of a series that nothing but time tells apart have the same `stack`; `time_point` is each one's
  // place among them, from 0. Time: Temporal Position, Acquisition Number, Trigger Time, Acquisition Time, or
  // the order of Instance Numbers where nothing else tells them apart.
  std::uint32_t stack = 0;
  std::uint32_t time_point = 0;

  std::uint32_t synthetic_slices() const;  // how many of `slices` are
};

// Instances, or single frames of enhanced ones, that are in no volume. LOCALIZER, NOT_AN_IMAGE, PICTURE and
// OWN_OBJECT leave the series' volumes as they are; any other reason means that a slice of the stack cannot
// be placed or read, and makes every volume of the series REJECT with the same code.
struct SetAside {
  std::uint32_t count = 0;
  tomoserve::v1::Reason reason;
};

struct Series {
  std::string series_instance_uid;  // derived where empty
  std::string modality;
  std::uint32_t instances = 0;
  std::uint32_t frames = 0;
  std::vector<SetAside> set_aside;
  std::vector<Volume> volumes;
};

struct StudySeries {
  tomoserve::v1::StudyRef ref;  // identity; UIDs derived from content where missing
  std::vector<Series> series;   // by Series Number, then UID
  // IDENTITY_CONFLICT (two patients: the study must not run; value: the fields), NAME_DIFFERS, UIDS_DERIVED,
  // STUDY_UID_DIFFERS, and the helpers' repairs (CHARSET_REPAIRED, ...). Values never hold patient data.
  std::vector<tomoserve::v1::Reason> notices;
  bool identity_conflict = false;
};

// Groups, sorts, judges. Deterministic: the order of `instances` does not matter. Instances are one study's
// (the caller keeps others out); duplicates (same SOP UID and digest) count once, the smallest `index` stays;
// same SOP UID with other content makes the volume REJECT DUPLICATE_CONFLICT.
// Missing UIDs are derived (base::UidFromSeed) and noticed as UIDS_DERIVED: a SOP Instance UID from its
// instance's digest; a Study UID from the sorted digests of all instances, so it changes when instances are
// added; a Series UID from the study's UID, modality, frame of reference, series number and plane.
StudySeries BuildStudy(const std::vector<Instance>& instances);

// Study Instance UID of a header. Empty where the header has none: such an instance belongs to whatever
// submission it came with, and BuildStudy derives the study's UID from all of them.
std::string StudyUidOf(const Instance& instance);

}  // namespace tomoserve::series
