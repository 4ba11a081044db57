// Serves the front's requests. Threads: the caller of Serve receives; one loads models; one prepares runs;
// lanes compute windows; one finishes runs. So a cancellation is heard while any of the others works.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "apps/tomoserve_worker/front.h"
#include "apps/tomoserve_worker/run.h"
#include "apps/tomoserve_worker/warm_up.h"
#include "apps/tomoserve_worker/work_queue.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/engine/compute_device.h"
#include "tomoserve/executor/executor.h"
#include "tomoserve/ipc/v1/worker.pb.h"

namespace tomoserve::worker {

class Worker {
 public:
  // `front` must outlive the worker. `lanes` compute windows, in batches of `buckets`; `threads` prepare and
  // finish a run; models and runs may use `memory`.
  Worker(Front& front, const MemoryShare& memory, engine::ComputeDevice device, std::uint32_t lanes,
         std::uint32_t threads, BucketChoice buckets);
  // Cancels what is left; waits for the windows in flight.
  ~Worker();

  // Returns when the front is gone or sent what cannot be understood. PEER_GONE is the ordinary end.
  absl::Status Serve();

  // Windows computed so far. Thread-safe.
  std::uint64_t windows_done() const { return executor_->windows_done(); }
  executor::Counters counters() const { return executor_->counters(); }
  // Memory of the GPU that this process held after the last window, run or load, bytes; 0 on a CPU. Never
  // blocks: LibTorch's allocator holds its lock while the driver works, and a heartbeat must not wait for it.
  std::uint64_t device_memory_used_bytes() const { return device_memory_used_bytes_; }

 private:
  // What decides when a run's windows come.
  struct Order {
    std::uint32_t urgency = 0;
    std::optional<double> deadline_ms;  // by base::MonotonicMs
    bool operator==(const Order&) const = default;
  };
  // A run between its StartRun and its answer.
  struct ActiveRun {
    std::string run_id;
    std::atomic<bool> cancelled{false};
    bool begun = false;  // its preparation; guarded by mutex_
    Order order;         // guarded by mutex_
  };
  using Fds = std::vector<base::UniqueFd>;
  static constexpr std::size_t kClasses = 4;  // of urgency: each may overtake those below it

  void Handle(ipc::v1::WorkerRequest request, Fds fds);
  void Load(const ipc::v1::LoadModel& load, const Fds& fds);
  void Check(const std::string& model_digest);
  absl::StatusOr<ipc::v1::ModelState> LoadAndWarmUp(const ipc::v1::LoadModel& load, const Fds& fds);
  void Start(ipc::v1::StartRun start, Fds fds);
  void Prepare(const std::shared_ptr<ActiveRun>& active, const ipc::v1::StartRun& start, Fds fds);
  void Submit(const std::shared_ptr<ActiveRun>& active, std::shared_ptr<executor::Batcher> batcher,
              std::shared_ptr<Run> run);
  void Finish(const std::shared_ptr<ActiveRun>& active, std::shared_ptr<Run> run);
  void Update(const ipc::v1::UpdateRun& update);
  Order OrderOf(const ActiveRun& active);
  // Applies the run's order until it is the one that was applied last.
  void CatchUp(const ActiveRun& active, Order applied, const std::function<void(const Order&)>& apply);
  void Cancel(const std::string& run_id);
  // After an error, before it is answered. Ends the process when it left the device unusable: nothing that it
  // says of runs counts any more, and what was in flight is tried again by another process.
  void Recover(const absl::Status& error) const;
  // Answers a run, once.
  void Answer(const ActiveRun& active, const absl::StatusOr<ipc::v1::RunDone>& result);
  void SendResult(const ActiveRun& active, const absl::StatusOr<ipc::v1::RunDone>& result);

  std::shared_ptr<const LoadedModel> FindModel(const std::string& digest);
  // What the model's forward pass takes, measured where it is not known and no run is in flight; 0: still not
  // known. On the thread that loads.
  absl::StatusOr<std::uint64_t> MeasureForward(const std::string& model_digest,
                                               const std::shared_ptr<const LoadedModel>& model);
  // Weights of all loaded models (and of `another` one), and the forward pass of the hungriest one: windows
  // follow each other.
  std::uint64_t ResidentBytes(const LoadedModel* another = nullptr);
  void NoteMemoryUsed() { device_memory_used_bytes_ = resources_.device.MemoryUsedBytes(); }
  // Runs that were begun so far; nothing while one is in flight.
  std::optional<std::uint64_t> RunsWhenIdle();

  Front& front_;
  const RunResources resources_;
  const BucketChoice buckets_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const LoadedModel>> models_;  // by digest; guarded by mutex_
  std::map<std::string, std::shared_ptr<ActiveRun>> runs_;            // by run id; guarded by mutex_
  std::uint64_t runs_begun_ = 0;                                      // guarded by mutex_
  std::atomic<std::uint64_t> device_memory_used_bytes_{0};
  // Destroyed from the last to the first: each may post to those above it.
  WorkQueue finishing_{kClasses};
  std::unique_ptr<executor::Executor> executor_;
  WorkQueue loading_{1};
  WorkQueue preparing_{kClasses};
};

}  // namespace tomoserve::worker
