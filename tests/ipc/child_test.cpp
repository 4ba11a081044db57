#include "tomoserve/ipc/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "processes.h"
#include "tomoserve/base/status.h"

namespace tomoserve::ipc {
namespace {

using base::ReasonOf;
using std::chrono::milliseconds;

constexpr char kShell[] = "/bin/sh";

// Exit code of a shell script run as a child.
int ExitCodeOf(const std::string& script, const std::vector<std::string>& environment = {}) {
  auto child = Child::Spawn({kShell, "-c", script}, environment);
  EXPECT_TRUE(child.ok()) << child.status();
  const auto status = child->Wait(milliseconds(10'000));
  EXPECT_TRUE(status.ok()) << status.status();
  EXPECT_FALSE(child->running());
  return status->signal != 0 ? -status->signal : status->exit_code;
}

TEST(ChildTest, ReportsExitCodeAndSignal) {
  EXPECT_EQ(ExitCodeOf("exit 7"), 7);
  EXPECT_EQ(ExitCodeOf("kill -SEGV $$"), -SIGSEGV);
}

TEST(ChildTest, MissingProgramIsATypedError) {
  const auto child = Child::Spawn({"/nonexistent/program"});
  EXPECT_EQ(ReasonOf(child.status()), "CHILD_NOT_STARTED");
  EXPECT_EQ(base::ValueOf(child.status()), std::to_string(ENOENT));
  EXPECT_EQ(ReasonOf(Child::Spawn({}).status()), "CHILD_NOT_STARTED");
}

TEST(ChildTest, InheritsOnlyItsSocketAndStandardStreams) {
  const base::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const base::UniqueFd inheritable(::fcntl(null.get(), F_DUPFD, 20));  // no close-on-exec
  ASSERT_GE(inheritable.get(), 20);
  // The pattern's own folder descriptor is closed again when its name is looked at.
  EXPECT_EQ(ExitCodeOf("for fd in /proc/$$/fd/*; do"
                       "  test ${fd##*/} -le 3 || test ! -e $fd || exit 1; "
                       "done; "
                       "test \"$(readlink /proc/$$/fd/0)\" = /dev/null || exit 2; "
                       "test \"$(readlink /proc/$$/fd/1)\" = \"$(readlink /proc/$$/fd/2)\" || exit 3; "
                       "test -S /proc/$$/fd/3 || exit 4"),
            0);
}

TEST(ChildTest, EnvironmentIsMinimalAndExtensible) {
  ::setenv("TOMOSERVE_TEST_SECRET", "1", 1);
  EXPECT_EQ(ExitCodeOf("test \"$TZ$LANG$EXTRA$TOMOSERVE_TEST_SECRET\" = UTCC.UTF-8value", {"EXTRA=value"}),
            0);
  ::unsetenv("TOMOSERVE_TEST_SECRET");
}

TEST(ChildTest, BlockedAndIgnoredSignalsAreNotInherited) {
  sigset_t blocked;
  sigset_t before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  ::signal(SIGTERM, SIG_IGN);
  EXPECT_EQ(ExitCodeOf("kill -TERM $$"), -SIGTERM);
  ::signal(SIGTERM, SIG_DFL);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

TEST(ChildTest, SocketConnectsBothAndEndsWithTheChild) {
  auto child = Child::Spawn({kShell, "-c", "read -r line <&3"});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(ReasonOf(child->socket().Receive(milliseconds(20)).status()), "TIMEOUT");
  child->socket().Shutdown();
  EXPECT_TRUE(child->Wait(milliseconds(10'000)).ok());
  EXPECT_EQ(ReasonOf(child->socket().Receive(milliseconds(1000)).status()), "PEER_GONE");
}

TEST(ChildTest, WaitGivesUpAndKillEndsIt) {
  auto child = Child::Spawn({"/bin/sleep", "100"});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(ReasonOf(child->Wait(milliseconds(20)).status()), "TIMEOUT");
  EXPECT_TRUE(child->running());
  child->Kill(SIGKILL);
  const auto status = child->Wait(milliseconds(10'000));
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->signal, SIGKILL);
  child->Kill(SIGKILL);
  EXPECT_EQ(ReasonOf(child->Wait(milliseconds(0)).status()), "CHILD_NOT_RUNNING");
}

TEST(ChildTest, DestructorEndsReapsAndCloses) {
  const std::size_t descriptors = OpenDescriptors();
  const std::size_t children = ChildrenOf(::getpid()).size();
  {
    auto obedient = Child::Spawn({kShell, "-c", "read -r line <&3"});
    ASSERT_TRUE(obedient.ok());
    auto moved = Child::Spawn({"/bin/true"});
    ASSERT_TRUE(moved.ok());
    *moved = *std::move(obedient);  // ends /bin/true
    EXPECT_FALSE(obedient->running());
  }
  EXPECT_EQ(ChildrenOf(::getpid()).size(), children);
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST(ChildTest, DestructorKillsAChildThatDoesNotListen) {
  pid_t pid = -1;
  {
    auto child = Child::Spawn({"/bin/sleep", "100"});
    ASSERT_TRUE(child.ok());
    pid = child->pid();
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(ChildTest, WhatTheChildLeavesRunningEndsWithIt) {
  auto child = Child::Spawn({kShell, "-c", "sleep 100 & sleep 100 & wait"});
  ASSERT_TRUE(child.ok());
  const pid_t pid = child->pid();
  std::vector<pid_t> grandchildren;
  ASSERT_TRUE(Eventually([&] { return (grandchildren = ChildrenOf(pid)).size() == 2; }));
  child->Kill(SIGKILL);
  ASSERT_TRUE(child->Wait(milliseconds(10'000)).ok());
  for (const pid_t grandchild : grandchildren) {
    EXPECT_TRUE(Eventually([&] {
      std::ifstream file("/proc/" + std::to_string(grandchild) + "/stat");
      std::string line;
      return !std::getline(file, line) || line.find(") Z ") != std::string::npos;
    }));
  }
}

TEST(ChildTest, DoesNotReapChildrenOfOthers) {
  const pid_t other = ::fork();
  if (other == 0) ::_exit(9);
  EXPECT_EQ(ExitCodeOf("exit 0"), 0);
  int status = 0;
  EXPECT_EQ(::waitpid(other, &status, 0), other);
  EXPECT_TRUE(ExitedWith(status, 9));
}

TEST(SiblingProgramTest, LiesBesideTheRunningProgram) {
  const std::string path = SiblingProgram("tomoserve-dicom");
  EXPECT_EQ(std::filesystem::path(path).parent_path(),
            std::filesystem::canonical("/proc/self/exe").parent_path());
  EXPECT_EQ(std::filesystem::path(path).filename(), "tomoserve-dicom");
}

}  // namespace
}  // namespace tomoserve::ipc
