#include "ipc/all_threads.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace tomoserve::ipc {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kSignal = SIGURG;
constexpr int kNotYet = -1;

// What the handler sees. A signal handler has no other argument than what stands in static memory.
struct Order {
  std::atomic<int (*)(int)> call = nullptr;
  std::atomic<int> argument = 0;
  std::atomic<pid_t> thread = 0;  // whose answer is waited for
  std::atomic<int> answer = kNotYet;
};
Order order;

void Obey(int) {
  const int saved = errno;
  if (const auto call = order.call.load()) {
    const int answer = call(order.argument.load());
    // One that comes late is no answer to what is asked of another thread.
    if (order.thread.load() == ::gettid()) order.answer.store(answer);
  }
  errno = saved;
}

std::vector<pid_t> Threads() {
  std::vector<pid_t> threads;
  std::error_code error;
  for (std::filesystem::directory_iterator entry("/proc/self/task", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    pid_t thread = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), thread).ec == std::errc()) {
      threads.push_back(thread);
    }
  }
  return threads;
}

// Whether the thread did as it was told, or has ended.
bool Tell(pid_t thread, std::chrono::milliseconds patience) {
  order.answer.store(kNotYet);
  order.thread.store(thread);
  if (::tgkill(::getpid(), thread, kSignal) != 0) return errno == ESRCH;
  for (const Clock::time_point deadline = Clock::now() + patience; order.answer.load() == kNotYet;) {
    if (::tgkill(::getpid(), thread, 0) != 0) return errno == ESRCH;
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  return order.answer.load() == 0;
}

}  // namespace

std::size_t RunInOtherThreads(int (*call)(int argument), int argument, std::chrono::milliseconds patience) {
  order.argument.store(argument);
  order.call.store(call);
  struct sigaction before {};
  struct sigaction obey {};
  obey.sa_handler = &Obey;
  obey.sa_flags = SA_RESTART;
  ::sigaction(kSignal, &obey, &before);
  std::size_t left_out = 0;
  std::set<pid_t> told = {::gettid()};
  // Until a whole round finds nobody new: a thread that was started before its starter was told is seen in
  // the next one, and what is started later inherits.
  for (bool anew = true; anew;) {
    anew = false;
    for (const pid_t thread : Threads()) {
      if (!told.insert(thread).second) continue;
      anew = true;
      if (!Tell(thread, patience)) ++left_out;
    }
  }
  order.call.store(nullptr);
  ::sigaction(kSignal, &before, nullptr);
  return left_out;
}

}  // namespace tomoserve::ipc
