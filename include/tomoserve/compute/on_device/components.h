// Components of labels that lie on a device: it finds the runs of rows, the host joins them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute::on_device {

// FindComponents of a contiguous label tensor [k][j][i] (see on_device/labels.h). Waits for the device.
absl::StatusOr<ComponentSet> FindComponents(const at::Tensor& labels, const Parallel& parallel);

// KeepLargestComponents on a contiguous label tensor [k][j][i].
absl::Status KeepLargestComponents(const at::Tensor& labels, std::uint32_t label, std::size_t count,
                                   const Parallel& parallel);

// FillHoles on a contiguous label tensor [k][j][i].
absl::Status FillHoles(const at::Tensor& labels, std::uint32_t label, const Parallel& parallel);

// KeepInRegion (compute/region.h) on a contiguous label tensor [k][j][i]; `region` is the host's, contiguous
// uint8 of the same shape.
absl::Status KeepInRegion(const at::Tensor& labels, const at::Tensor& region, bool whole_components,
                          const Parallel& parallel);

}  // namespace tomoserve::compute::on_device
