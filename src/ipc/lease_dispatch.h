// Splits the items of a call into leases, and finds the poison after a child's death.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "ipc/lease_work.h"
#include "ipc/zygote_client.h"

namespace tomoserve::ipc {

// So many at a time, first come, first served. Thread-safe.
class Permits {
 public:
  explicit Permits(std::uint32_t count) : free_(count) {}
  void Take();
  void Give();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t next_ticket_ = 0;
  std::uint64_t serving_ = 0;
  std::uint32_t free_;
};

// Thread-safe: several calls share the permits.
class LeaseDispatch {
 public:
  // `zygotes` must outlive it.
  LeaseDispatch(const HelperPoolOptions& options, ZygoteClient& zygotes)
      : options_(options), zygotes_(zygotes), permits_(options.leases) {}

  // Returns when every item of `work` has a result. `cancelled` (may be empty) is asked by one thread at a
  // time.
  void Run(LeaseWork& work, const std::function<bool()>& cancelled);
  std::uint64_t child_deaths() const { return child_deaths_; }

 private:
  class Call;
  struct Hand;
  struct Batch;
  enum class Outcome { kServed, kDied, kTimeout, kLied };  // kServed: so far

  void Work(Call& call);
  void RunLease(Call& call, std::size_t first, bool alone);
  Outcome Serve(Call& call, RecordSocket& socket, Hand& hand);
  Outcome HandOut(Call& call, RecordSocket& socket, Hand& hand);
  Outcome SendBatch(Call& call, RecordSocket& socket, Hand& hand, Batch batch);
  Outcome TakeReply(Call& call, RecordSocket& socket, Hand& hand);
  void Blame(Call& call, Hand& hand, Outcome outcome, const LeaseEnd& end);

  const HelperPoolOptions& options_;
  ZygoteClient& zygotes_;
  Permits permits_;
  std::atomic<std::uint64_t> child_deaths_ = 0;
};

}  // namespace tomoserve::ipc
