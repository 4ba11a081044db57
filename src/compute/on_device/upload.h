// StoredToFloat of a device. Private to the room.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "tomoserve/compute/stored_to_float.h"

namespace tomoserve::compute::on_device {

// The slices have been checked.
absl::StatusOr<at::Tensor> Upload(std::span<const StoredSlice> slices,
                                  const std::array<std::uint32_t, 3>& size_ijk, const Parallel& parallel,
                                  at::Device device);

}  // namespace tomoserve::compute::on_device
