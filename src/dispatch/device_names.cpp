#include "dispatch/device_names.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dispatch {
namespace {

struct DeviceFiles {
  int gpus = 0;         // "nvidia0", "nvidia1", ...
  bool driver = false;  // any of NVIDIA's
};

DeviceFiles FindDeviceFiles(const std::string& device_folder, std::optional<std::string_view> visible) {
  DeviceFiles found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(device_folder, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("nvidia", 0) != 0) continue;
    found.driver = true;
    const std::string digits = name.substr(6);
    if (!digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos) ++found.gpus;
  }
  if (visible) {
    const std::vector<std::string> shown = absl::StrSplit(base::ToAbsl(*visible), ',', absl::SkipEmpty());
    found.gpus = std::min(found.gpus, static_cast<int>(shown.size()));
  }
  return found;
}

}  // namespace

std::vector<std::string> ExpandDevices(const std::vector<std::string>& devices,
                                       const std::string& device_folder,
                                       std::optional<std::string_view> visible) {
  std::vector<std::string> expanded;
  for (const std::string& device : devices) {
    if (device != "auto" && device != "cuda:all") {
      expanded.push_back(device);
      continue;
    }
    const DeviceFiles found = FindDeviceFiles(device_folder, visible);
    for (int gpu = 0; gpu < found.gpus; ++gpu) expanded.push_back(absl::StrCat("cuda:", gpu));
    if (found.gpus > 0) continue;
    const bool cpu = device == "auto" && !found.driver;
    // A GPU that was asked for, or has a driver, and is not there is a fault to be shown: cuda:0 says what is
    // missing.
    expanded.push_back(cpu ? "cpu" : "cuda:0");
    if (cpu) base::Log(base::LogLevel::kInfo, "no_gpu", {{"device", "cpu"}});
  }
  return expanded;
}

}  // namespace tomoserve::dispatch
