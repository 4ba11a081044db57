// What the fake worker answers: what it sees in the voxels, and its lies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve {

// Labels the voxels of a time point that are above 0 in its last channel, on the first `slices`, in the
// region if there is one, and says where they are. False where the request cannot be read.
bool Look(const ipc::v1::StartRun& start, std::span<const base::UniqueFd> fds, std::uint32_t time_point,
          std::uint32_t slices, const volume::Geometry& geometry, std::span<std::byte> labels,
          std::span<const std::byte> region, ipc::v1::RunDone& done);

// What a patient's values may look like; `dense`: half of them as dense as bone.
void CountHounsfield(std::uint64_t values, bool dense, ipc::v1::RunDone& done);

// Makes an answer's field say what cannot be true.
void Lie(const std::string& field, ipc::v1::RunDone& done, std::span<std::byte> labels);

}  // namespace tomoserve
