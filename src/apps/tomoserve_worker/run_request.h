// A StartRun whose every number was checked against its descriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/compute/stored_to_float.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::worker {

// Move-only; of a front's request the spans in `slices` point into `pixels`.
struct RunRequest {
  volume::Geometry geometry;
  std::uint32_t time_points = 1;
  std::uint32_t channels = 1;                      // volumes of a time point
  std::vector<ipc::Mapping> pixels;                // read-only, one per stored slice
  std::vector<compute::StoredSlice> slices;        // k ascending, of one volume after the other
  ipc::Mapping label_map;                          // what `labels` lies in, where a front gave it
  std::span<std::byte> labels;                     // writable, exactly one layer of the grid per time point
  std::uint32_t label_bytes_per_voxel = 0;         // 1 or 2
  std::vector<std::uint32_t> hounsfield_channels;  // whose values are counted; not checked
  std::optional<ipc::Mapping> region;              // read-only, exactly one layer of the grid
  std::uint32_t region_bytes_per_voxel = 0;        // 1 or 2 where there is one

  // Slices of all channels of a time point.
  std::span<const compute::StoredSlice> SlicesOf(std::uint32_t time_point) const;
};

// Checks geometry, slices, slots and label maps against each other and against the descriptors (label map
// first, then the region's, then arenas), and maps exactly what the run may touch. Errors: kInvalidArgument
// REQUEST_INVALID (value: the field; for a slice with its number).
absl::StatusOr<RunRequest> ReadRunRequest(const ipc::v1::StartRun& start,
                                          std::span<const base::UniqueFd> fds);

}  // namespace tomoserve::worker
