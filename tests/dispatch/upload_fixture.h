// What upload tests look at: the spool's files, statuses by instance key.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "dispatch/fixture.h"

namespace tomoserve::dispatch {

class UploadTest : public DispatchTest {
 protected:
  std::size_t SpoolFiles() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator(folder_ / "data" / "spool"))
      ++count;
    return count;
  }
  static std::map<std::string, v1::InstanceStatus> ByKey(const std::vector<v1::InstanceStatus>& statuses) {
    std::map<std::string, v1::InstanceStatus> map;
    for (const v1::InstanceStatus& status : statuses) map[status.instance_key()] = status;
    return map;
  }
};

}  // namespace tomoserve::dispatch
