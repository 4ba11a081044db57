// A thread that carries out tasks, most urgent first.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace tomoserve::worker {

// Thread-safe. Tasks that have not begun when it is destroyed are dropped.
class WorkThread {
 public:
  WorkThread() : thread_([this](const std::stop_token& stop) { Loop(stop); }) {}

  // Higher urgency first; equal: first come, first served. `task` must not throw.
  void Post(std::uint32_t urgency, std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.emplace(urgency, std::move(task));
    }
    work_.notify_one();
  }

 private:
  void Loop(const std::stop_token& stop) {
    while (true) {
      std::unique_lock lock(mutex_);
      if (!work_.wait(lock, stop, [&] { return !tasks_.empty(); }) || stop.stop_requested()) return;
      const auto first = tasks_.begin();
      const std::function<void()> task = std::move(first->second);
      tasks_.erase(first);
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any work_;
  std::multimap<std::uint32_t, std::function<void()>, std::greater<>> tasks_;  // guarded by mutex_
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace tomoserve::worker
