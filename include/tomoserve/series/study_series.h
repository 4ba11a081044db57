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
struct Volume {
  Verdict verdict = Verdict::kReject;
  std::vector<tomoserve::v1::Reason> reasons;
  std::optional<volume::Geometry> geometry;
  std::vector<VolumeSlice> slices;  // k ascending along row x column
  // Header of the first slice, for selection (modality, image type, kernel, ...).
  ipc::v1::InstanceHeader representative;
};

struct SetAside {
  std::uint32_t count = 0;
  tomoserve::v1::Reason reason;  // LOCALIZER, NOT_AN_IMAGE, COLOUR, ...
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
  // IDENTITY_CONFLICT (two patients: the study must not run), NAME_DIFFERS, CHARSET_REPAIRED, ...
  std::vector<tomoserve::v1::Reason> notices;
  bool identity_conflict = false;
};

// Groups, sorts, judges. Deterministic: the order of `instances` does not matter. Instances are one study's
// (the caller keeps others out); duplicates (same SOP UID and digest) count once; same SOP UID with other
// content makes the volume REJECT DUPLICATE_CONFLICT.
StudySeries BuildStudy(const std::vector<Instance>& instances);

// Study Instance UID of a header, or one derived from `content_sha256` where the header has none.
std::string StudyUidOf(const Instance& instance);

}  // namespace tomoserve::series
