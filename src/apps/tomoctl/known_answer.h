// A known answer for a version: a part of the phantom, and what the version says of it here.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/tomoctl/check_study.h"

namespace tomoserve::tomoctl {

// Most voxels along i, j and k of a known answer's volume.
inline constexpr std::array<std::uint32_t, 3> kKnownAnswerSize = {64, 64, 40};

// The part of a phantom around a point, of at most that size; values and geometry only.
absl::StatusOr<phantom::Phantom> PartAround(const phantom::Phantom& phantom, const volume::LpsPoint& point,
                                            const std::array<std::uint32_t, 3>& most_ijk);

// Whether an entry can get a known answer: kFailedPrecondition KNOWN_ANSWER_EXISTS where it has one,
// kUnimplemented CHECK_UNSUPPORTED where its recipe has a region.
absl::Status CanKnow(const models::Model& model);

// Writes `part` and what the model said of it into the folder of the version: known_answer.npy,
// known_answer_labels.npy where it makes labels, and the block known_answer at the end of recipe.textproto,
// last. Gives a line for the user. The version has another digest then. Errors: KNOWN_ANSWER_EMPTY where it
// marks nothing there, GEOMETRY_INVALID where the server saw another grid, those of AddKnownAnswer
// (RECIPE_INVALID of a detector's boxes that may all be missing). Nothing was changed then.
absl::StatusOr<std::string> WriteKnownAnswer(const std::filesystem::path& version, const models::Model& model,
                                             const phantom::Options& options, const phantom::Phantom& part,
                                             const Outcome& outcome);

}  // namespace tomoserve::tomoctl
