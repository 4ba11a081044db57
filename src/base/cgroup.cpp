#include "tomoserve/base/cgroup.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace tomoserve::base {
namespace {

namespace fs = std::filesystem;

// A controller's tree, and the folders of the process's group and of those above it, from the group up.
struct Groups {
  bool version2 = false;
  std::vector<fs::path> folders;
};

std::vector<fs::path> UpFrom(const fs::path& mount, const std::string& group) {
  std::vector<fs::path> folders;
  fs::path relative = fs::path(group).relative_path();
  // A group outside of what this namespace sees has no folder here: the mount's own is what is left.
  const bool outside = std::find(relative.begin(), relative.end(), "..") != relative.end();
  if (outside) relative.clear();
  for (; !relative.empty(); relative = relative.parent_path()) folders.push_back(mount / relative);
  folders.push_back(mount);
  return folders;
}

// Lines of /proc/self/cgroup: "0::PATH" of version 2, "N:memory:PATH" of version 1, where several controllers
// may share a tree.
std::vector<Groups> GroupsOf(const fs::path& root) {
  const fs::path mount = root / "sys/fs/cgroup";
  std::vector<Groups> groups;
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      groups.push_back({.version2 = true, .folders = UpFrom(mount, group)});
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      groups.push_back({.version2 = false, .folders = UpFrom(mount / "memory", group)});
    }
  }
  // Without /proc the mount's own group is what can be seen.
  if (groups.empty()) groups = {{.version2 = true, .folders = {mount}}, {.folders = {mount / "memory"}}};
  return groups;
}

std::optional<std::uint64_t> CounterIn(const fs::path& path, std::string_view wanted) {
  std::ifstream file(path);
  std::string name;
  std::uint64_t value = 0;
  while (file >> name >> value) {
    if (name == wanted) return value;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> CgroupMemoryLimit(const fs::path& root) {
  std::optional<std::uint64_t> least;
  for (const Groups& groups : GroupsOf(root)) {
    for (const fs::path& folder : groups.folders) {
      std::uint64_t limit = 0;  // "max" does not parse
      std::ifstream file(folder / (groups.version2 ? "memory.max" : "memory.limit_in_bytes"));
      if (file >> limit && limit > 0) least = std::min(least.value_or(limit), limit);
    }
  }
  return least;
}

std::optional<std::uint64_t> CgroupOomKills(const fs::path& root) {
  for (const Groups& groups : GroupsOf(root)) {
    for (const fs::path& folder : groups.folders) {
      const auto kills =
          CounterIn(folder / (groups.version2 ? "memory.events" : "memory.oom_control"), "oom_kill");
      if (kills) return kills;
    }
  }
  return std::nullopt;
}

}  // namespace tomoserve::base
