// The case of a version whose answer is known: its files, read and checked against its recipe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/v1/dicom.pb.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::models {

// Most bytes of one of its files: the worker keeps them, and carries the case out again and again.
inline constexpr std::size_t kMaxKnownAnswerBytes = std::size_t{64} << 20;

// Its files in the version's folder, in the order in which they travel: volume, labels. Empty: none.
std::vector<std::string> KnownAnswerFiles(const v1::Recipe& recipe);

// Immutable once read.
struct KnownCase {
  volume::Geometry geometry;
  std::uint32_t channels = 1;  // of the volume, one for each input of the recipe
  ipc::v1::StoredType type = ipc::v1::STORED_TYPE_UNSPECIFIED;  // I16 or U16
  std::vector<std::byte> values;      // [channel][k][j][i], in the unit of the inputs
  std::vector<std::uint16_t> labels;  // [k][j][i]; empty of a detector

  // Slice k of a channel, row by row.
  std::span<const std::byte> Slice(std::uint32_t channel, std::uint32_t k) const;
};

// `files`: the bytes of KnownAnswerFiles(recipe), in its order; `recipe` is valid and has a known answer.
// Errors: kInvalidArgument RECIPE_INVALID (value: "known_answer.volume", "known_answer.labels" or
// "known_answer.geometry"; the text has the code of ReadNpy) for a file that cannot be read, or does not fit
// geometry, inputs or labels.
absl::StatusOr<KnownCase> ReadKnownCase(const v1::Recipe& recipe, std::span<const std::string> files);

// Whether an answer is the known one, as far as the recipe's tolerances ask. `labels`: the label map's bytes,
// 1 or 2 per voxel, on the case's grid. Errors: kFailedPrecondition KNOWN_ANSWER_DIFFERS (value: the figures,
// e.g. "1.2 % of 5312 voxels differ, 0.1 % may"; voxels without a label here and there are not counted; or
// "label 2 is missing, 100 voxels" or "is new", of more than 10 voxels, which no tolerance covers).
absl::Status CompareLabels(const v1::KnownAnswer& tolerances, const KnownCase& known,
                           std::span<const std::byte> labels, std::uint32_t bytes_per_voxel);

// The same of a detector's findings: each known box needs one of its label, place, size and score, and none
// may be left over. One whose score is within box_score of the lowest that the recipe keeps may be there or
// not; where a list is as long as the recipe's max_findings, and shares a box with the other one, its own
// lowest score counts. Errors: as above, e.g. "1 of 3 boxes are missing, 0 are new".
absl::Status CompareBoxes(const v1::Recipe& recipe, std::span<const v1::Finding* const> found);

}  // namespace tomoserve::models
