#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "processes.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/sandbox.h"

namespace tomoserve::ipc {
namespace {

constexpr int kNotEntered = 99;

class HelperSandboxTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef TOMOSERVE_SANITIZED
    GTEST_SKIP() << "the filter is left out of sanitizer builds";
#endif
  }
  // Wait status of a process that entered the sandbox and then ran `function`.
  static int RunConfined(const std::function<int()>& function, const HelperLimits& limits = {}) {
    return RunForked([&] { return EnterHelperSandbox(limits).ok() ? function() : kNotEntered; });
  }
  static int CallConfined(long number, long a = 0, long b = 0, long c = 0, long d = 0) {
    return RunConfined([&] {
      ::syscall(number, a, b, c, d);
      return 0;
    });
  }
};

TEST_F(HelperSandboxTest, EntersAndExits) {
  EXPECT_TRUE(ExitedWith(RunConfined([] { return 5; }), 5));
}

TEST_F(HelperSandboxTest, ForbiddenCallsKill) {
  const auto memfd = CreateSealedMemfd("test", 4096);
  ASSERT_TRUE(memfd.ok());
  const int fd = memfd->get();
  const long path = reinterpret_cast<long>("/etc/passwd");
  const std::vector<std::pair<const char*, int>> calls = {
      {"socket", CallConfined(SYS_socket, AF_UNIX, SOCK_STREAM)},
      {"socketpair", CallConfined(SYS_socketpair, AF_UNIX, SOCK_STREAM)},
      {"connect", CallConfined(SYS_connect, fd)},
      {"open", CallConfined(SYS_open, path, O_RDONLY)},
      {"openat", CallConfined(SYS_openat, AT_FDCWD, path, O_RDONLY)},
      {"openat2", CallConfined(SYS_openat2, AT_FDCWD, path)},
      {"creat", CallConfined(SYS_creat, path, 0600)},
      {"unlink", CallConfined(SYS_unlink, path)},
      {"readlink", CallConfined(SYS_readlink, path)},
      {"newfstatat by name", CallConfined(SYS_newfstatat, AT_FDCWD, path, 0, 0)},
      {"execve", CallConfined(SYS_execve, reinterpret_cast<long>("/bin/true"))},
      {"execveat", CallConfined(SYS_execveat, fd)},
      {"fork", CallConfined(SYS_fork)},
      {"vfork", CallConfined(SYS_vfork)},
      {"clone", CallConfined(SYS_clone, SIGCHLD)},
      {"clone3", CallConfined(SYS_clone3)},
      {"pwrite64", CallConfined(SYS_pwrite64, fd, path, 1, 0)},
      {"pwritev", CallConfined(SYS_pwritev, fd, path, 1, 0)},
      {"write to the memfd", CallConfined(SYS_write, fd, path, 1)},
      {"write with rubbish above 32 bits", CallConfined(SYS_write, (1L << 32) | STDERR_FILENO, path, 0)},
      {"sendfile", CallConfined(SYS_sendfile, fd, fd, 0, 1)},
      {"splice", CallConfined(SYS_splice, fd)},
      {"ftruncate", CallConfined(SYS_ftruncate, fd, 1L << 40)},
      {"fallocate", CallConfined(SYS_fallocate, fd, 0, 0, 1L << 40)},
      {"memfd_create", CallConfined(SYS_memfd_create, path)},
      {"ptrace", CallConfined(SYS_ptrace)},
      {"kill", CallConfined(SYS_kill, ::getpid(), 0)},
      {"tgkill of another", CallConfined(SYS_tgkill, ::getpid(), ::getpid(), 0)},
      {"prctl", CallConfined(SYS_prctl, 4, 1)},
      {"setrlimit", CallConfined(SYS_setrlimit, RLIMIT_AS)},
      {"prlimit64", CallConfined(SYS_prlimit64)},
      {"io_uring_setup", CallConfined(SYS_io_uring_setup, 8)},
      {"shmget", CallConfined(SYS_shmget)},
      {"fcntl F_DUPFD", CallConfined(SYS_fcntl, fd, F_DUPFD, 50)},
      {"fcntl F_ADD_SEALS", CallConfined(SYS_fcntl, fd, F_ADD_SEALS, F_SEAL_WRITE)},
      {"mmap executable",
       CallConfined(SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS)},
      {"mprotect executable", CallConfined(SYS_mprotect, 0, 4096, PROT_EXEC)},
      {"setuid", CallConfined(SYS_setuid, 0)},
      {"mount", CallConfined(SYS_mount)},
      {"a call of the x32 table", CallConfined(0x40000000L | SYS_read)},
  };
  for (const auto& [name, status] : calls) {
    EXPECT_TRUE(KilledBy(status, SIGSYS)) << name << ": status " << status;
  }
}

TEST_F(HelperSandboxTest, ThreadsCannotBeStarted) {
  EXPECT_TRUE(KilledBy(RunConfined([] {
                         pthread_t thread;
                         ::pthread_create(
                             &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr);
                         return 0;
                       }),
                       SIGSYS));
}

TEST_F(HelperSandboxTest, MemoryWorksBigAndSmall) {
  EXPECT_TRUE(ExitedWith(RunConfined([] {
                           std::vector<std::unique_ptr<char[]>> blocks;
                           for (std::size_t size = 16; size <= (256u << 20); size *= 4) {
                             blocks.push_back(std::make_unique<char[]>(size));
                             blocks.back()[size - 1] = 1;
                           }
                           auto* grown = static_cast<char*>(std::malloc(1 << 20));
                           grown = static_cast<char*>(std::realloc(grown, 300u << 20));
                           grown[(300u << 20) - 1] = 1;
                           std::free(grown);
                           blocks.clear();
                           return 0;
                         }),
                         0));
}

TEST_F(HelperSandboxTest, GrantedSlotCanBeMappedAndFilled) {
  const auto arena = Arena::Create(8192, 4, nullptr);
  ASSERT_TRUE(arena.ok());
  const v1::Slot slot = (*arena)->slot(2);
  const int fd = (*arena)->fds()[0];
  EXPECT_TRUE(ExitedWith(RunConfined([&] {
                           auto mapping = Mapping::Map(fd, slot.offset(), slot.bytes(), true);
                           if (!mapping.ok()) return 1;
                           std::memset(mapping->bytes().data(), 9, mapping->bytes().size());
                           return 0;
                         }),
                         0));
  const auto filled = (*arena)->Read(2);
  ASSERT_TRUE(filled.ok());
  EXPECT_EQ(filled->bytes()[8191], std::byte{9});
}

TEST_F(HelperSandboxTest, RecordsWithDescriptorsAndTimeoutsWork) {
  auto pair = RecordSocket::Pair();
  ASSERT_TRUE(pair.ok());
  const base::UniqueFd spool(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  v1::Refusal hello;
  hello.set_code("HELLO");
  const int fd = spool.get();
  ASSERT_TRUE(pair->first.Send(hello, std::span(&fd, 1)).ok());
  EXPECT_TRUE(ExitedWith(RunConfined([&] {
                           v1::Refusal message;
                           std::vector<base::UniqueFd> fds;
                           if (!pair->second.ReceiveMessage(message, &fds).ok() || fds.size() != 1) return 1;
                           std::array<char, 4> magic{};
                           if (::pread(fds[0].get(), magic.data(), magic.size(), 0) != 4) return 2;
                           struct stat file {};
                           if (::fstat(fds[0].get(), &file) != 0) return 3;
                           fds.clear();
                           message.set_text(std::string(magic.data() + 1, 3));
                           if (!pair->second.Send(message).ok()) return 4;
                           return pair->second.Receive(std::chrono::milliseconds(10)).ok() ? 5 : 0;
                         }),
                         0));
  v1::Refusal answer;
  ASSERT_TRUE(pair->first.ReceiveMessage(answer, nullptr).ok());
  EXPECT_EQ(answer.text(), "ELF");
}

TEST_F(HelperSandboxTest, AbortAndLogWork) {
  EXPECT_TRUE(KilledBy(RunConfined([]() -> int { std::abort(); }), SIGABRT));
  EXPECT_TRUE(ExitedWith(RunConfined([] {
                           // Through the C library, as a codec would.
                           return std::fprintf(stderr, "%s", "") == 0 && ::write(STDERR_FILENO, "", 0) == 0
                                      ? 0
                                      : 1;
                         }),
                         0));
}

TEST_F(HelperSandboxTest, MessageToAFileIsLostInsteadOfDeadly) {
  const base::UniqueFd file(::memfd_create("log", MFD_CLOEXEC));
  EXPECT_TRUE(ExitedWith(RunForked([&] {
                           ::dup2(file.get(), STDERR_FILENO);
                           if (!EnterHelperSandbox({}).ok()) return kNotEntered;
                           return ::write(STDERR_FILENO, "patient", 7) < 0 && errno == EFBIG ? 0 : 1;
                         }),
                         0));
}

TEST_F(HelperSandboxTest, MemoryLimitHolds) {
  HelperLimits limits;
  // Above what earlier tests' threads have reserved in this process.
  limits.memory_bytes = 2ull << 30;
  const auto memfd = CreateSealedMemfd("test", 2100ull << 20);
  ASSERT_TRUE(memfd.ok());
  EXPECT_TRUE(ExitedWith(RunConfined(
                             [&] {
                               std::vector<std::unique_ptr<char[]>> blocks;
                               try {
                                 for (int i = 0; i < 64; ++i) blocks.emplace_back(new char[64u << 20]);
                                 return 1;
                               } catch (const std::bad_alloc&) {
                               }
                               blocks.clear();
                               // Mapped memfds count too.
                               return Mapping::Map(memfd->get(), 0, 2100ull << 20, true).ok() ? 2 : 0;
                             },
                             limits),
                         0));
}

TEST_F(HelperSandboxTest, ProcessorTimeLimitHolds) {
  HelperLimits limits;
  limits.cpu_seconds = 1;
  const int status = RunConfined(
      []() -> int {
        for (volatile bool on = true; on;) {
        }
        return 0;
      },
      limits);
  EXPECT_TRUE(KilledBy(status, SIGXCPU)) << status;
}

TEST_F(HelperSandboxTest, DescriptorsAreLimitedAndCoresAreOff) {
  const int status = RunForked([] {
    if (!EnterHelperSandbox({}).ok()) return kNotEntered;
    ::raise(SIGSEGV);
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGSEGV));
  EXPECT_FALSE(WCOREDUMP(status));
}

}  // namespace
}  // namespace tomoserve::ipc
