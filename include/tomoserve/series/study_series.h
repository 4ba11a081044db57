// From instance headers to series and volumes: pure functions, no I/O. Rules: DICOM.md of the design notes,
// docs/GEOMETRY.md.
#pragma once

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

// One slice of a volume: frame `frame` of instance `index`; value = stored * slope + intercept.
struct VolumeSlice {
  std::uint32_t index = 0;
  std::uint32_t frame = 0;
  ipc::v1::StoredType stored_type = ipc::v1::STORED_TYPE_UNSPECIFIED;
  double slope = 1;
  double intercept = 0;
  std::string sop_instance_uid;
};

// A candidate volume. `geometry` is absent where the verdict is kReject and none could be computed.
// Codes of kReject, each with its number as `value`:
//   MISSING_SLICES(n; the text says where), UNEVEN_SPACING(min,median,max mm), DUPLICATE_POSITIONS(n),
//   MULTI_PHASE(phases), DUPLICATE_CONFLICT(SOP UIDs with two contents), MIXED_ORIENTATION(n stray slices),
//   MIXED_MATRIX, MIXED_SPACING, MIXED_FRAME_OF_REFERENCE, MIXED_MODALITY (same), GANTRY_TILT(deg; CT),
//   SHEAR(deg), SHIFTED_SLICES(n; off the stack's line), TOO_FEW_SLICES(n < 2), MIXED_RESCALE(n without),
//   RESCALE_INVALID(n), NO_POSITION(n), NO_SPACING(n), ORIENTATION_INVALID(n), NO_PIXELS(n),
//   PIXELS_UNSUPPORTED(n), ENHANCED_MULTIFRAME(frames), MOSAIC(n), SOP_CLASS_UNSUPPORTED(UID),
//   GEOMETRY_INVALID(field).
// Codes that may stand on kAccept: NO_RESCALE (CT without slope and intercept: 1 and 0 are used),
// SPLIT_BY(attribute; one of several volumes of its series).
struct Volume {
  Verdict verdict = Verdict::kReject;
  std::vector<tomoserve::v1::Reason> reasons;
  std::optional<volume::Geometry> geometry;
  std::vector<VolumeSlice> slices;  // k ascending along row x column
  // Header of the first slice, for selection (modality, image type, kernel, ...); lossy and lossy_ratio are
  // the worst of all slices. Holds patient data like any header.
  ipc::v1::InstanceHeader representative;
};

// Instances that are in no volume. LOCALIZER, NOT_AN_IMAGE, PICTURE and OWN_OBJECT leave the series' volumes
// as they are; any other reason means that a slice of the stack cannot be placed or read, and makes every
// volume of the series REJECT with the same code.
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
