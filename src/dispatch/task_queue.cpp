#include "dispatch/task_queue.h"

#include <future>
#include <memory>
#include <utility>

namespace tomoserve::dispatch {

TaskQueue::TaskQueue(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

TaskQueue::~TaskQueue() { Stop(); }

bool TaskQueue::Post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return false;
    tasks_.push_back(std::move(task));
  }
  changed_.notify_one();
  return true;
}

void TaskQueue::PostAfter(std::chrono::milliseconds delay, Task task) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    delayed_.emplace(Clock::now() + delay, std::move(task));
  }
  changed_.notify_one();
}

bool TaskQueue::Run(Task task) {
  // Shared with the task: the waiter may be gone before set_value has returned.
  const auto done = std::make_shared<std::promise<void>>();
  auto future = done->get_future();
  if (!Post([task = std::move(task), done] {
        task();
        done->set_value();
      })) {
    return false;
  }
  future.wait();
  return true;
}

void TaskQueue::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  std::multimap<Clock::time_point, Task> forgotten;
  const std::lock_guard lock(mutex_);
  forgotten.swap(delayed_);
}

void TaskQueue::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    Task task;
    if (!delayed_.empty() && !stopping_ && delayed_.begin()->first <= Clock::now()) {
      task = std::move(delayed_.begin()->second);
      delayed_.erase(delayed_.begin());
    } else if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    } else if (stopping_) {
      return;
    } else if (delayed_.empty()) {
      changed_.wait(lock);
      continue;
    } else {
      // By value: another thread may take the timer while this one waits.
      const Clock::time_point until = delayed_.begin()->first;
      changed_.wait_until(lock, until);
      continue;
    }
    lock.unlock();
    task();
    task = nullptr;
    lock.lock();
  }
}

}  // namespace tomoserve::dispatch
