// A StartRun whose every number was checked against its descriptors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::worker {

// Move-only; the spans in `slices` point into `pixels`.
struct RunRequest {
  volume::Geometry geometry;
  std::vector<ipc::Mapping> pixels;          // read-only, one per stored slice
  std::vector<compute::StoredSlice> slices;  // k ascending
  ipc::Mapping labels;                       // writable, exactly one layer of the grid
  std::uint32_t label_bytes_per_voxel = 0;   // 1 or 2
};

// Checks geometry, slices, slots and label map against each other and against the descriptors (label map
// first, then arenas), and maps exactly what the run may touch. Errors: kInvalidArgument REQUEST_INVALID
// (value: the field; for a slice with its number).
absl::StatusOr<RunRequest> ReadRunRequest(const ipc::v1::StartRun& start,
                                          std::span<const base::UniqueFd> fds);

}  // namespace tomoserve::worker
