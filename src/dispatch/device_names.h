// Names of devices as people write them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tomoserve::dispatch {

// Expands "cuda:all" (as many GPUs as there are NVIDIA device files, and as CUDA may show) and "auto" (the
// same; the CPU only where there is no NVIDIA device file at all, not even the driver's control file). GPUs
// are numbered as CUDA does in this container, from 0: a container that was given GPU 3 of its host sees it
// as 0. `device_folder` is "/dev" but in tests; `visible` is the value of CUDA_VISIBLE_DEVICES, where it is
// set.
std::vector<std::string> ExpandDevices(const std::vector<std::string>& devices,
                                       const std::string& device_folder,
                                       std::optional<std::string_view> visible = std::nullopt);

}  // namespace tomoserve::dispatch
