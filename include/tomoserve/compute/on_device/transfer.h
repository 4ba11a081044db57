// From a device to the host.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute::on_device {

// Copies a contiguous tensor of any device into `out`, which has its size in bytes and need not be pinned;
// returns when all of it is there. Errors: those of ParallelFor.
absl::Status Download(const at::Tensor& tensor, std::span<std::byte> out, const Parallel& parallel);

}  // namespace tomoserve::compute::on_device
