// Threads that carry out tasks, most urgent first; a more urgent one does not wait for the one at work.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tomoserve::worker {

// A task begins when no task is at work, or only less urgent ones. Thread-safe. Tasks that have not begun
// when it is destroyed are dropped.
class WorkQueue {
 public:
  // At most `threads` tasks at a time: as many as there are classes of urgency.
  explicit WorkQueue(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) { Loop(stop); });
    }
  }

  ~WorkQueue() {
    // All at once: one that ends its task must not leave the next one to another.
    for (std::jthread& thread : threads_) thread.request_stop();
  }

  // Equal urgency: first come, first served. `key`: what Update calls it by; several tasks may have one.
  // `task` must not throw.
  void Post(std::string key, std::uint32_t urgency, std::function<void()> task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.emplace(urgency, Task{.key = std::move(key), .work = std::move(task)});
    }
    work_.notify_one();
  }

  // Tasks with this key that have not begun are as urgent from now on; one whose urgency changes comes after
  // those that are as urgent already.
  void Update(const std::string& key, std::uint32_t urgency) {
    {
      const std::lock_guard lock(mutex_);
      std::vector<Tasks::node_type> moved;
      for (auto next = tasks_.begin(); next != tasks_.end();) {
        const auto task = next++;
        if (task->second.key == key && task->first != urgency) moved.push_back(tasks_.extract(task));
      }
      for (auto& task : moved) {
        task.key() = urgency;
        tasks_.insert(std::move(task));
      }
    }
    work_.notify_one();
  }

 private:
  struct Task {
    std::string key;
    std::function<void()> work;
  };
  using Tasks = std::multimap<std::uint32_t, Task, std::greater<>>;  // by urgency

  // Whether the first task overtakes all that are at work.
  bool MayBegin() const {
    return !tasks_.empty() && (at_work_.empty() || tasks_.begin()->first > *at_work_.rbegin());
  }

  void Loop(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    while (work_.wait(lock, stop, [&] { return MayBegin(); }) && !stop.stop_requested()) {
      auto first = tasks_.extract(tasks_.begin());
      const auto mine = at_work_.insert(first.key());
      lock.unlock();
      first.mapped().work();
      first.mapped().work = nullptr;  // what it holds goes before the lock is taken
      lock.lock();
      at_work_.erase(mine);
      work_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable_any work_;
  Tasks tasks_;                           // guarded by mutex_
  std::multiset<std::uint32_t> at_work_;  // guarded by mutex_
  std::vector<std::jthread> threads_;     // last: they use all of the above
};

}  // namespace tomoserve::worker
