#include "ipc/all_threads.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <latch>
#include <thread>
#include <vector>

#include "processes.h"

namespace tomoserve::ipc {
namespace {

constexpr std::chrono::milliseconds kPatience{500};

// ThreadSanitizer keeps a thread of its own that blocks every signal, and hands signals on late.
#ifdef __SANITIZE_THREAD__
constexpr bool kSignalsArrive = false;
#else
constexpr bool kSignalsArrive = true;
#endif

#define TS_SKIP_WHERE_SIGNALS_ARE_DELAYED()                                \
  do {                                                                     \
    if (!kSignalsArrive) GTEST_SKIP() << "ThreadSanitizer delays signals"; \
  } while (false)

// Who was told: bit `argument` of each thread's own number.
thread_local std::atomic<int> told = 0;
int Tell(int argument) {
  told.fetch_or(1 << argument);
  return 0;
}
int Refuse(int) { return EPERM; }

TEST(AllThreadsTest, EveryOtherThreadIsToldWhateverItDoes) {
  TS_SKIP_WHERE_SIGNALS_ARE_DELAYED();
  const int status = RunForked([] {
    std::array<int, 2> pipe{};
    if (::pipe(pipe.data()) != 0) return 1;
    std::latch running(3);
    std::latch ended(1);
    std::atomic<int> told_in_time = 0;
    std::atomic<bool> stop = false;
    // One waits in the kernel, one for a lock of the process, one computes.
    std::vector<std::jthread> threads;
    threads.emplace_back([&] {
      running.count_down();
      char byte = 0;
      while (::read(pipe[0], &byte, 1) < 0 && errno == EINTR) {
      }
      told_in_time += told == 0b100 ? 1 : 0;
    });
    threads.emplace_back([&] {
      running.count_down();
      ended.wait();
      told_in_time += told == 0b100 ? 1 : 0;
    });
    threads.emplace_back([&] {
      running.count_down();
      while (!stop) {
      }
      told_in_time += told == 0b100 ? 1 : 0;
    });
    running.wait();
    const std::size_t left_out = RunInOtherThreads(&Tell, 2, kPatience);
    stop = true;
    ended.count_down();
    if (::write(pipe[1], "x", 1) != 1) return 2;
    threads.clear();
    if (left_out != 0) return 3;
    if (told != 0) return 4;  // the caller is none of the others
    return told_in_time == 3 ? 0 : 5;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

TEST(AllThreadsTest, AThreadThatBlocksSignalsIsLeftOutAndCounted) {
  TS_SKIP_WHERE_SIGNALS_ARE_DELAYED();
  const int status = RunForked([] {
    std::latch running(1);
    std::latch asked(1);
    std::jthread deaf([&] {
      sigset_t all;
      sigfillset(&all);
      ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
      running.count_down();
      asked.wait();
      // What is still pending does nothing once it is let through.
      ::pthread_sigmask(SIG_UNBLOCK, &all, nullptr);
      if (told != 0) ::_exit(2);
    });
    running.wait();
    const std::size_t left_out = RunInOtherThreads(&Tell, 0, std::chrono::milliseconds(50));
    asked.count_down();
    deaf.join();
    return left_out == 1 ? 0 : 1;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

TEST(AllThreadsTest, AThreadWhoseCallFailsIsCounted) {
  TS_SKIP_WHERE_SIGNALS_ARE_DELAYED();
  const int status = RunForked([] {
    std::latch running(1);
    std::latch asked(1);
    std::jthread other([&] {
      running.count_down();
      asked.wait();
    });
    running.wait();
    const std::size_t left_out = RunInOtherThreads(&Refuse, 0, kPatience);
    asked.count_down();
    return left_out == 1 ? 0 : 1;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

TEST(AllThreadsTest, AloneNothingHappensAndTheSignalIsAsBefore) {
  const int status = RunForked([] {
    if (kSignalsArrive && RunInOtherThreads(&Tell, 0, kPatience) != 0) return 1;
    struct sigaction after {};
    if (::sigaction(SIGURG, nullptr, &after) != 0 || after.sa_handler != SIG_DFL) return 2;
    ::raise(SIGURG);
    return told == 0 ? 0 : 3;
  });
  EXPECT_TRUE(ExitedWith(status, 0)) << status;
}

}  // namespace
}  // namespace tomoserve::ipc
