// The header pass of one upload: runs behind the writer, in batches, while bytes still stream in.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "dispatch/instance_rules.h"
#include "dispatch/task_queue.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/dispatch/observer.h"
#include "tomoserve/ipc/helper_pool.h"

namespace tomoserve::dispatch {

// Whole records go in, judged instances come out; the next batch is what came while the last one was read, so
// that batches grow with the stream's speed. Headers that wait for judgement take 128 MiB at most, or are
// one. Thread-safe; lives on in its task when the upload is dropped.
class HeaderPass : public std::enable_shared_from_this<HeaderPass> {
 public:
  // `helpers`, `pool` and `observer` (may be null) outlive every task.
  HeaderPass(ipc::HelperPool& helpers, TaskQueue& pool, base::UniqueFd spool, InstanceJudge judge,
             Observer* observer);

  // A record that is whole in the spool file (its pages need not be synced).
  void Add(store::SpoolRecord record);
  // Refuses an instance that is not in the spool.
  void Refuse(const std::string& instance_key, v1::Reason reason);
  // Statuses since the last call.
  std::vector<v1::InstanceStatus> TakeStatuses();
  // Adds a status that needs no judgement.
  void AddStatus(v1::InstanceStatus status);
  // Waits until everything that was added is judged; then nobody else touches the judge until the next Add.
  // Errors: kUnavailable DRAINING when the server stops, HELPER_UNAVAILABLE where headers could not be read
  // for a reason that lies with the helpers: the files are not to blame, and none of them is judged by it.
  absl::StatusOr<const InstanceJudge*> Wait();
  // How long helpers have read headers in all.
  double busy_ms() const;
  // The upload is gone: what is not read yet is left.
  void Abandon();

 private:
  // Bounds the time until the first status of a long queue comes out.
  static constexpr std::size_t kMaxBatch = 256;

  void Work();
  void StartWork();  // with mutex_ held

  ipc::HelperPool& helpers_;
  TaskQueue& pool_;
  const base::UniqueFd spool_;

  Observer* const observer_;

  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<store::SpoolRecord> pending_;
  std::size_t batch_size_ = kMaxBatch;  // fewer after headers that were large
  std::vector<std::pair<std::string, v1::Reason>> refusals_;
  std::vector<v1::InstanceStatus> statuses_;
  bool working_ = false;
  bool abandoned_ = false;
  bool stopped_ = false;
  double busy_ms_ = 0;
  absl::Status unavailable_;  // once headers could not be read, no more are
  InstanceJudge judge_;       // the working task's, or the waiter's while nothing works
};

}  // namespace tomoserve::dispatch
