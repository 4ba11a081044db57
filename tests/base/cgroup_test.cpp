#include "tomoserve/base/cgroup.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tomoserve/base/config.h"

namespace tomoserve::base {
namespace {

class CgroupTest : public ::testing::Test {
 protected:
  CgroupTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "tomoserve-cgroup-XXXXXX").string();
    root_ = ::mkdtemp(pattern.data());
  }
  ~CgroupTest() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  void BeIn(const std::string& lines) { Write("proc/self/cgroup", lines); }

  std::filesystem::path root_;
};

TEST_F(CgroupTest, TheSmallestLimitUpTheTreeCounts) {
  BeIn("0::/system.slice/tomoserve.service");
  Write("sys/fs/cgroup/system.slice/memory.max", "5000");
  Write("sys/fs/cgroup/system.slice/tomoserve.service/memory.max", "7000");
  EXPECT_EQ(CgroupMemoryLimit(root_), 5000u);
  Write("sys/fs/cgroup/system.slice/tomoserve.service/memory.max", "3000");
  EXPECT_EQ(CgroupMemoryLimit(root_), 3000u);
  Write("sys/fs/cgroup/other.slice/memory.max", "1");
  EXPECT_EQ(CgroupMemoryLimit(root_), 3000u) << "another group's is not ours";
}

TEST_F(CgroupTest, MaxIsNoLimit) {
  BeIn("0::/a");
  Write("sys/fs/cgroup/a/memory.max", "max");
  EXPECT_EQ(CgroupMemoryLimit(root_), std::nullopt);
  Write("sys/fs/cgroup/memory.max", "9000");
  EXPECT_EQ(CgroupMemoryLimit(root_), 9000u) << "a container's own mount";
}

TEST_F(CgroupTest, AGroupThatThisNamespaceDoesNotSeeLeavesTheMounts) {
  BeIn("0::/../../elsewhere");
  Write("sys/fs/cgroup/memory.max", "9000");
  Write("sys/fs/elsewhere/memory.max", "1");
  EXPECT_EQ(CgroupMemoryLimit(root_), 9000u);
}

TEST_F(CgroupTest, VersionOneHasATreeOfItsOwn) {
  BeIn("9:name=systemd:/x\n4:cpu,memory:/docker/abc\n0::/");
  Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  Write("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "4000");
  Write("sys/fs/cgroup/memory/docker/abc/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2");
  EXPECT_EQ(CgroupMemoryLimit(root_), 4000u);
  EXPECT_EQ(CgroupOomKills(root_), 2u);
}

TEST_F(CgroupTest, KillsAreThoseOfTheOwnGroup) {
  BeIn("0::/a/b");
  EXPECT_EQ(CgroupOomKills(root_), std::nullopt);
  Write("sys/fs/cgroup/a/memory.events", "low 0\nhigh 0\nmax 7\noom 4\noom_kill 3\noom_group_kill 0");
  EXPECT_EQ(CgroupOomKills(root_), 3u) << "the nearest that counts";
  Write("sys/fs/cgroup/a/b/memory.events", "oom 1\noom_kill 1");
  EXPECT_EQ(CgroupOomKills(root_), 1u);
}

TEST_F(CgroupTest, WithoutProcTheMountCounts) {
  Write("sys/fs/cgroup/memory.max", "9000");
  EXPECT_EQ(CgroupMemoryLimit(root_), 9000u);
}

TEST_F(CgroupTest, ThisProcessHasSomeMemory) {
  EXPECT_GT(MemoryLimitBytes(), std::uint64_t{1} << 20);
  const std::uint64_t bytes = MemoryLimitBytes();
  EXPECT_LE(bytes, CgroupMemoryLimit().value_or(bytes));
}

}  // namespace
}  // namespace tomoserve::base
