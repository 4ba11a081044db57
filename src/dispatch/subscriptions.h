// Who wants to hear of changed runs.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace tomoserve::dispatch {

// Thread-safe, except that Notify is called by one thread at a time.
class Subscriptions {
 public:
  using Changed = std::function<void(const std::string& study_uid, const std::string& run_id)>;

  Subscriptions();
  ~Subscriptions();

  // The subscription ends with the handle: after its destruction `changed` is not running and is not called
  // again (a handle destroyed inside its own call is the exception: that call still ends). The handle may
  // outlive this.
  std::shared_ptr<void> Add(Changed changed);
  // Calls everybody, without a lock held.
  void Notify(const std::string& study_uid, const std::string& run_id);

 private:
  struct Subscriber;
  struct List;
  std::shared_ptr<List> list_;
};

}  // namespace tomoserve::dispatch
