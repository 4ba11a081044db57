#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <fstream>
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

TEST(WorkerSandboxTest, FilesCannotBeWrittenCreatedOrRemoved) {
  if (!HasLandlock()) GTEST_SKIP() << "this kernel has no Landlock";
  std::string folder = "/tmp/tomoserve-ipc-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/file";
  std::ofstream(file) << "content";
  const int status = RunConfined([&] {
    if (::open(file.c_str(), O_RDONLY | O_CLOEXEC) < 0) return 1;
    if (::open(file.c_str(), O_WRONLY | O_CLOEXEC) >= 0 || errno != EACCES) return 2;
    if (::open((folder + "/new").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0 || errno != EACCES)
      return 3;
    if (::unlink(file.c_str()) == 0) return 4;
    if (::mkdir((folder + "/new").c_str(), 0700) == 0) return 5;
    if (::rename(file.c_str(), (folder + "/new").c_str()) == 0) return 6;
    if (::open("/dev/null", O_RDWR | O_CLOEXEC) < 0) return 7;
    int from_thread = 0;
    std::jthread([&] { from_thread = ::open(file.c_str(), O_WRONLY | O_CLOEXEC); }).join();
    return from_thread < 0 ? 0 : 8;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
  std::string content;
  std::ifstream(file) >> content;
  EXPECT_EQ(content, "content");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tomoserve::ipc
