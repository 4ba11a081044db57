// Threads that run posted tasks. With one thread it is a coordinator: what only its tasks touch needs no
// lock.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

namespace tomoserve::dispatch {

// Runs tasks in the order of posting, and delayed ones when their time has come (monotonic clock).
// Thread-safe.
class TaskQueue {
 public:
  using Task = std::function<void()>;

  explicit TaskQueue(unsigned threads);
  ~TaskQueue();
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  // False once Stop has begun: the task is dropped.
  bool Post(Task task);
  // Dropped if Stop comes first.
  void PostAfter(std::chrono::milliseconds delay, Task task);
  // Runs `task` on the queue and waits for its end. False once Stop has begun: it did not run. Never call it
  // from a task of the same queue.
  bool Run(Task task);
  // Refuses new tasks, runs those that were posted, forgets delayed ones, joins. Idempotent.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  void Work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  std::multimap<Clock::time_point, Task> delayed_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tomoserve::dispatch
