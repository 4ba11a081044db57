// A worker runs code that came with a model: what it says is checked before it is believed.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/recipe.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::dispatch {

// Whether the answer to `start` can be true: as many findings as the recipe allows, labels of the recipe,
// finite numbers, places inside the grid, each stage once and no longer than a week, as many windows as the
// run's progress spoke of (`windows_total`; 0: there was none) and as any run may have, Hounsfield counts
// where they were asked for and only there, of no more values than are stored and parts no larger than what
// they are part of; mean values within what the stored types can give, and where Hounsfield units were asked
// for; distances to labels that the rule names. Errors: kInvalidArgument WORKER_LIED (value: the field).
absl::Status CheckRunDone(const v1::Recipe& recipe, const volume::Geometry& grid,
                          const ipc::v1::StartRun& start, const ipc::v1::RunDone& done,
                          std::uint32_t windows_total);

// A reason that a worker states, cut to what a reason may be: an upper-case code, short printable texts. A
// code that is none becomes `fallback`.
v1::Reason CleanReason(const ipc::v1::Refusal& refusal, const char* fallback);

// Label values that a recipe's label map may hold, 0 among them.
std::set<std::uint32_t> LabelValues(const v1::Recipe& recipe);

// Reads `bytes` of a label map from the sealed memfd `fd`, checks every voxel, digests and compresses it
// (zstd). The worker may still write to it: each piece is copied once and only the copy is looked at.
// `bytes_per_voxel` is 1 or 2. Errors: WORKER_LIED (value: label_map), SLOT_INVALID. The result's label_map
// is left empty.
absl::StatusOr<store::ResultBlob> PackLabelMap(int fd, std::uint64_t bytes, std::uint32_t bytes_per_voxel,
                                               const std::set<std::uint32_t>& values);

}  // namespace tomoserve::dispatch
