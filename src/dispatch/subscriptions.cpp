#include "dispatch/subscriptions.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace tomoserve::dispatch {

struct Subscriptions::Subscriber {
  explicit Subscriber(Changed function) : changed(std::move(function)) {}

  void Call(const std::string& study_uid, const std::string& run_id) {
    {
      const std::lock_guard lock(mutex);
      if (ended) return;
      caller = std::this_thread::get_id();
    }
    changed(study_uid, run_id);
    {
      const std::lock_guard lock(mutex);
      caller = {};
    }
    idle.notify_all();
  }

  void End() {
    std::unique_lock lock(mutex);
    ended = true;
    idle.wait(lock, [this] { return caller == std::thread::id() || caller == std::this_thread::get_id(); });
  }

  const Changed changed;
  std::mutex mutex;
  std::condition_variable idle;
  std::thread::id caller;
  bool ended = false;
};

struct Subscriptions::List {
  std::mutex mutex;
  std::vector<std::shared_ptr<Subscriber>> subscribers;
};

Subscriptions::Subscriptions() : list_(std::make_shared<List>()) {}
Subscriptions::~Subscriptions() = default;

std::shared_ptr<void> Subscriptions::Add(Changed changed) {
  auto subscriber = std::make_shared<Subscriber>(std::move(changed));
  {
    const std::lock_guard lock(list_->mutex);
    list_->subscribers.push_back(subscriber);
  }
  return std::shared_ptr<void>(subscriber.get(), [list = list_, subscriber](void*) {
    {
      const std::lock_guard lock(list->mutex);
      std::erase(list->subscribers, subscriber);
    }
    subscriber->End();
  });
}

void Subscriptions::Notify(const std::string& study_uid, const std::string& run_id) {
  std::vector<std::shared_ptr<Subscriber>> subscribers;
  {
    const std::lock_guard lock(list_->mutex);
    subscribers = list_->subscribers;
  }
  for (const auto& subscriber : subscribers) subscriber->Call(study_uid, run_id);
}

}  // namespace tomoserve::dispatch
