// Computes windows of admitted runs on lanes, in batches of one model that any of its runs may fill, most
// urgent first, and folds each window's output into its run in window order, so that sums do not depend on
// timing. Which windows make the next batch: docs/adr/0012-continuous-batching.md.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tomoserve/executor/job.h"

namespace tomoserve::executor {

struct JobOptions {
  std::string run_id;
  std::uint32_t urgency = 0;          // class; the higher one first
  std::optional<double> deadline_ms;  // by base::MonotonicMs; within a class the earliest first, then by age
  // The model; null: a common one for all jobs without, which computes one window at a time.
  std::shared_ptr<Batcher> batcher;
  // Folded windows, from a lane, one call at a time per job, `done` rising. Must not block.
  std::function<void(std::uint32_t done, std::uint32_t total)> progress;
  // Called once, from a lane: OK, the first error, or kCancelled CANCELLED. The executor holds neither the
  // job nor any of its outputs by then. Must not throw; may call Submit and Cancel.
  std::function<void(absl::Status)> finished;
};

// What was computed since the start.
struct Counters {
  struct Wait {
    std::uint64_t runs = 0;
    double sum_ms = 0;
    double longest_ms = 0;
  };
  std::uint64_t batches = 0;
  std::uint64_t windows = 0;          // in them
  std::uint64_t slots = 0;            // of their buckets: windows / slots is how full they were
  std::uint64_t retried_batches = 0;  // that failed as a whole and were computed one window at a time
  std::vector<double> lane_busy_ms;   // per lane, with windows and their folds
  std::map<std::uint32_t, Wait> first_window_wait;  // by urgency, from Submit
};

// Thread-safe. An exception of a job (kInternal JOB_FAILED; std::bad_alloc: kResourceExhausted OUT_OF_MEMORY)
// is the error of that job only.
class Executor {
 public:
  // `lanes` threads, at least one. At most `ahead` outputs of a job wait for their turn to be folded, so a
  // job has at most `ahead` + 1 windows that are begun and not folded (bounds memory, and what one job alone
  // can give to a batch).
  static std::unique_ptr<Executor> Create(std::uint32_t lanes, std::uint32_t ahead);
  // Cancels what is left, waits for the windows in flight and for every `finished`. Not from a lane.
  virtual ~Executor() = default;
  // A run of this class is being prepared. Until Submit or Cancel of its id one lane that becomes free leaves
  // less urgent windows alone, for no longer than a batch of them takes, so that the run does not wait for
  // one.
  virtual void Expect(const std::string& run_id, std::uint32_t urgency) = 0;
  virtual void Submit(std::shared_ptr<Job> job, JobOptions options) = 0;
  // Another class or deadline, from the next batch on; also of a run that is expected. Unknown ids are
  // ignored.
  virtual void Update(const std::string& run_id, std::uint32_t urgency,
                      std::optional<double> deadline_ms) = 0;
  // Between two batches; unknown ids are ignored. A window in flight is completed and thrown away. The last
  // window's Fold may win: then the job is finished with OK.
  virtual void Cancel(const std::string& run_id) = 0;
  // Runs `task` once on every lane, each before the lane's next batch, and returns when all have: for what
  // must be done per thread (warm-up). Not from a lane. `task` must not throw. Concurrent calls take turns.
  virtual void OnEveryLane(const std::function<void(std::uint32_t lane)>& task) = 0;
  // Windows whose Forward succeeded, of all jobs. Never blocks.
  virtual std::uint64_t windows_done() const = 0;
  virtual Counters counters() const = 0;
};

}  // namespace tomoserve::executor
