// What the kernel's control group of this process says: how much memory it may use, and how often that ended
// a process. Groups are nested, and a limit of any group above counts too (systemd's MemoryMax=, a container
// that sees the host's groups). Version 2, and version 1's memory controller.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

namespace tomoserve::base {

// The smallest memory limit of the process's group and of those above it, bytes; nothing: none has one.
// `root`: where proc and sys/fs/cgroup are.
std::optional<std::uint64_t> CgroupMemoryLimit(const std::filesystem::path& root = "/");

// Processes of the group that the OOM killer has ended so far, whichever group's limit it was; of the nearest
// group above where the group does not count them. Nothing: none counts.
std::optional<std::uint64_t> CgroupOomKills(const std::filesystem::path& root = "/");

}  // namespace tomoserve::base
