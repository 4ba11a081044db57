#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <latch>
#include <mutex>
#include <thread>

#include "processes.h"
#include "tomoserve/ipc/arena.h"
#include "tomoserve/ipc/record_socket.h"
#include "tomoserve/ipc/sandbox.h"

namespace tomoserve::ipc {
namespace {

constexpr int kNotEntered = 99;
constexpr long kLandlockCreateRuleset = 444;

int RunConfined(const std::function<int()>& function, WorkerDevice device = WorkerDevice::kCpu) {
  return RunForked([&] { return EnterWorkerSandbox(device).ok() ? function() : kNotEntered; });
}

int CallConfined(long number, long a = 0, long b = 0, long c = 0) {
  return RunConfined([&] {
    ::syscall(number, a, b, c);
    return 0;
  });
}

int CallConfinedWithGpu(long number, long a = 0, long b = 0) {
  return RunConfined(
      [&] {
        ::syscall(number, a, b);
        return 0;
      },
      WorkerDevice::kGpu);
}

bool HasLandlock() { return ::syscall(kLandlockCreateRuleset, nullptr, 0, 1) >= 1; }

TEST(WorkerSandboxTest, ForbiddenCallsKill) {
  const long path = reinterpret_cast<long>("/bin/true");
  const std::vector<std::pair<const char*, int>> calls = {
      {"socket AF_INET", CallConfined(SYS_socket, AF_INET, SOCK_STREAM)},
      {"socket AF_INET6", CallConfined(SYS_socket, AF_INET6, SOCK_DGRAM)},
      {"socket AF_NETLINK", CallConfined(SYS_socket, AF_NETLINK, SOCK_RAW)},
      {"socket AF_PACKET", CallConfined(SYS_socket, AF_PACKET, SOCK_RAW)},
      {"socket AF_VSOCK", CallConfined(SYS_socket, AF_VSOCK, SOCK_STREAM)},
      {"socket AF_UNIX of connections", CallConfined(SYS_socket, AF_UNIX, SOCK_STREAM)},
      {"socket AF_UNIX of datagrams", CallConfined(SYS_socket, AF_UNIX, SOCK_DGRAM)},
      {"socketpair", CallConfined(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET)},
      {"socket AF_INET with rubbish above 32 bits",
       CallConfined(SYS_socket, (1L << 32) | AF_INET, SOCK_STREAM)},
      {"connect", CallConfined(SYS_connect, 0)},
      {"bind", CallConfined(SYS_bind, 0)},
      {"execve", CallConfined(SYS_execve, path)},
      {"execveat", CallConfined(SYS_execveat, AT_FDCWD, path)},
      {"ptrace", CallConfined(SYS_ptrace)},
      {"process_vm_readv", CallConfined(SYS_process_vm_readv)},
      {"process_vm_writev", CallConfined(SYS_process_vm_writev)},
      {"mount", CallConfined(SYS_mount)},
      {"bpf", CallConfined(SYS_bpf)},
      {"init_module", CallConfined(SYS_init_module)},
      {"kexec_load", CallConfined(SYS_kexec_load)},
      {"a call of the x32 table", CallConfined(0x40000000L | SYS_execve, path)},
  };
  for (const auto& [name, status] : calls) {
    EXPECT_TRUE(KilledBy(status, SIGSYS)) << name << ": status " << status;
  }
}

TEST(WorkerSandboxTest, WithAGpuNothingCanBeReachedEither) {
  for (const int status : {CallConfinedWithGpu(SYS_socket, AF_INET, SOCK_STREAM),
                           CallConfinedWithGpu(SYS_socket, AF_NETLINK, SOCK_RAW),
                           CallConfinedWithGpu(SYS_socket, (1L << 32) | AF_UNIX, SOCK_STREAM),
                           CallConfinedWithGpu(SYS_socketpair, AF_TIPC, SOCK_SEQPACKET),
                           CallConfinedWithGpu(SYS_execve, reinterpret_cast<long>("/bin/true")),
                           CallConfinedWithGpu(SYS_ptrace)}) {
    EXPECT_TRUE(KilledBy(status, SIGSYS)) << status;
  }
  // Drivers look for their services and live without.
  const int status = RunConfined(
      [] {
        const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
        if (socket < 0) return 1;
        for (const long call : {SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4}) {
          errno = 0;
          if (::syscall(call, socket, nullptr, 0, 0) >= 0 || errno != EACCES) return 2;
        }
        return ::open("/dev/null", O_RDWR | O_CLOEXEC) >= 0 ? 0 : 3;
      },
      WorkerDevice::kGpu);
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

// A datagram socket reaches whoever listens on a path without connect: with sendto, also one of a pair.
TEST(WorkerSandboxTest, WithAGpuThereAreUnixSocketsOfConnectionsAndNoOthers) {
  const int status = RunConfined(
      [] {
        std::array<int, 2> pair{};
        for (const long flags : {0, SOCK_CLOEXEC | SOCK_NONBLOCK}) {
          for (const long type : {SOCK_STREAM, SOCK_SEQPACKET}) {
            if (::syscall(SYS_socket, AF_UNIX, type | flags, 0) < 0) return 1;
            if (::syscall(SYS_socketpair, AF_UNIX, type | flags, 0, pair.data()) < 0) return 2;
          }
          // The kernel makes a datagram socket of SOCK_RAW, and reads the lower half of the register.
          for (const long type :
               {long{SOCK_DGRAM}, long{SOCK_RAW}, long{SOCK_RDM}, 0L, 15L, (1L << 32) | SOCK_DGRAM}) {
            errno = 0;
            if (::syscall(SYS_socket, AF_UNIX, type | flags, 0) >= 0 || errno != EACCES) return 3;
            errno = 0;
            if (::syscall(SYS_socketpair, AF_UNIX, type | flags, 0, pair.data()) >= 0 || errno != EACCES) {
              return 4;
            }
          }
        }
        return 0;
      },
      WorkerDevice::kGpu);
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

TEST(WorkerSandboxTest, ThreadsThatRunAlreadyAreConfinedToo) {
  const int status = RunForked([] {
    std::latch confined(1);
    std::jthread other([&] {
      confined.wait();
      (void)::socket(AF_INET, SOCK_STREAM, 0);
    });
    if (!EnterWorkerSandbox(WorkerDevice::kCpu).ok()) ::_exit(kNotEntered);
    confined.count_down();
    other.join();
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS)) << status;
}

TEST(WorkerSandboxTest, ThreadsMemoryFilesAndLibrariesWork) {
  auto pair = RecordSocket::Pair();
  ASSERT_TRUE(pair.ok());
  const int status = RunConfined([&] {
    int sum = 0;
    std::mutex mutex;
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back([&] {
          const std::vector<int> memory(1 << 20, 1);
          const std::lock_guard lock(mutex);
          sum += memory.back();
        });
      }
    }
    if (sum != 4) return 1;
    std::ifstream program("/proc/self/exe", std::ios::binary);
    std::array<char, 4> magic{};
    if (!program.read(magic.data(), magic.size()) || magic[1] != 'E') return 2;
#ifndef TOMOSERVE_SANITIZED
    if (::dlopen("libz.so.1", RTLD_NOW) == nullptr) return 3;
#endif
    auto memfd = CreateSealedMemfd("labels", 4096);
    if (!memfd.ok() || !Mapping::Map(memfd->get(), 0, 4096, true).ok()) return 4;
    v1::Refusal message;
    message.set_code("DONE");
    const int fd = memfd->get();
    if (!pair->second.Send(message, std::span(&fd, 1)).ok()) return 5;
    return 0;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
  const auto record = pair->first.Receive(std::chrono::milliseconds(1000));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->fds.size(), 1u);
}

TEST(WorkerSandboxTest, IoUringIsNotThere) {
  EXPECT_TRUE(ExitedWith(
      RunConfined([] { return ::syscall(SYS_io_uring_setup, 8, nullptr) < 0 && errno == ENOSYS ? 0 : 1; }),
      0));
}

// A folder with one file in it, for tests that try to change both.
class WorkerFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!HasLandlock()) GTEST_SKIP() << "this kernel has no Landlock";
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    file_ = folder_ + "/file";
    std::ofstream(file_) << "content";
  }
  void TearDown() override {
    if (file_.empty()) return;
    std::string content;
    std::ifstream(file_) >> content;
    EXPECT_EQ(content, "content");
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
    std::filesystem::remove_all(folder_);
  }
  // 0 where nothing can be changed by the calling thread.
  int TryToWrite() const {
    if (::open(file_.c_str(), O_RDONLY | O_CLOEXEC) < 0) return 1;
    if (::open(file_.c_str(), O_WRONLY | O_CLOEXEC) >= 0 || errno != EACCES) return 2;
    if (::open((folder_ + "/new").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0 || errno != EACCES) {
      return 3;
    }
    if (::unlink(file_.c_str()) == 0) return 4;
    if (::mkdir((folder_ + "/new").c_str(), 0700) == 0) return 5;
    if (::rename(file_.c_str(), (folder_ + "/new").c_str()) == 0) return 6;
    return ::open("/dev/null", O_RDWR | O_CLOEXEC) >= 0 ? 0 : 7;
  }

  std::string folder_ = "/tmp/tomoserve-ipc-XXXXXX";
  std::string file_;
};

TEST_F(WorkerFilesTest, CannotBeWrittenCreatedOrRemoved) {
  const int status = RunConfined([&] {
    if (const int error = TryToWrite(); error != 0) return error;
    int from_thread = -1;
    std::jthread([&] { from_thread = TryToWrite(); }).join();
    return from_thread == 0 ? 0 : 10 + from_thread;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

TEST_F(WorkerFilesTest, CannotBeWrittenByThreadsThatRunAlreadyNorByTheirs) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer delays the signal that tells a thread";
#endif
  for (const WorkerDevice device : {WorkerDevice::kCpu, WorkerDevice::kGpu}) {
    const int status = RunForked([&] {
      std::latch running(1);
      std::latch confined(1);
      int from_earlier = -1;
      int from_its_own = -1;
      std::jthread earlier([&] {
        running.count_down();
        confined.wait();
        from_earlier = TryToWrite();
        std::jthread([&] { from_its_own = TryToWrite(); }).join();
      });
      running.wait();
      if (!EnterWorkerSandbox(device).ok()) ::_exit(kNotEntered);
      confined.count_down();
      earlier.join();
      if (from_earlier != 0) return 10 + from_earlier;
      return from_its_own == 0 ? 0 : 20 + from_its_own;
    });
    EXPECT_TRUE(ExitedWith(status, 0)) << status;
  }
}

}  // namespace
}  // namespace tomoserve::ipc
