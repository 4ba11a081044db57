// Bytes of a run's arrays at the worst moment; network and label map not counted.
#pragma once

#include <cstdint>

#include "tomoserve/compute/grid_map.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::pipeline {

// With plain loops, on the host.
std::uint64_t LoopBytes(const volume::Geometry& volume, const compute::ModelGrid& model,
                        std::uint64_t channels);

// With tensor operations, where the tensors lie. An upper bound of what is in use, not of what an allocator
// keeps.
std::uint64_t DeviceBytes(const volume::Geometry& volume, const compute::ModelGrid& model,
                          std::uint64_t channels);

// With tensor operations on a device other than the host, on the host.
std::uint64_t HostBytesBesideDevice(const volume::Geometry& volume);

}  // namespace tomoserve::pipeline
