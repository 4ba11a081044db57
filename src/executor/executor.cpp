#include "tomoserve/executor/executor.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "executor/forward_slots.h"
#include "executor/guarded.h"
#include "executor/window_queue.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::executor {
namespace {

absl::Status Cancelled() {
  return base::Error(absl::StatusCode::kCancelled, "CANCELLED", "", "the run was cancelled");
}

// A submitted job. All members but the constants are guarded by the executor's mutex.
struct Run {
  std::shared_ptr<Job> job;
  JobOptions options;
  RunKey key = 0;
  double submitted_ms = 0;
  std::uint32_t windows = 0;

  std::uint32_t folded = 0;   // windows folded
  std::uint32_t in_hand = 0;  // windows that a lane computes, or folds what it computed with them
  bool folding = false;       // a lane is in Fold or progress
  absl::Status error;         // the first one
  std::map<std::uint32_t, std::unique_ptr<Job::Output>> waiting;

  bool AtRest() const { return in_hand == 0 && !folding && (!error.ok() || folded == windows); }
};

// What every lane has to do once.
struct LaneTask {
  const std::function<void(std::uint32_t)>* task = nullptr;
  std::vector<bool> taken;
  std::uint32_t left = 0;
};

class LaneExecutor final : public Executor {
 public:
  LaneExecutor(std::uint32_t lanes, std::uint32_t ahead) : queue_(ahead) {
    counters_.lane_busy_ms.resize(lanes);
    lanes_.reserve(lanes);
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      lanes_.emplace_back([this, lane] { Lane(lane); });
    }
  }

  ~LaneExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const auto& [key, run] : runs_) Fail(*run, Cancelled());
    }
    work_.notify_all();
    lanes_.clear();  // joins
  }

  void Expect(const std::string& run_id, std::uint32_t urgency) override {
    const std::lock_guard lock(mutex_);
    const auto [known, added] = expected_.emplace(run_id, next_key_);
    if (!added) return;
    queue_.Expect(next_key_++, urgency);
  }

  void Submit(std::shared_ptr<Job> job, JobOptions options) override {
    auto run = std::make_shared<Run>();
    run->options = std::move(options);
    run->error = Guarded([&] {
      run->windows = job->windows();
      return absl::OkStatus();
    });
    run->job = std::move(job);
    if (run->options.batcher == nullptr) run->options.batcher = one_by_one_;
    {
      const std::lock_guard lock(mutex_);
      Arrived(run->options.run_id);
      run->key = next_key_++;
      run->submitted_ms = base::MonotonicMs();
      if (stopping_) Fail(*run, Cancelled());
      if (run->error.ok()) queue_.Add(QueuedOf(*run));
      runs_.emplace(run->key, std::move(run));
    }
    work_.notify_all();
  }

  void Update(const std::string& run_id, std::uint32_t urgency, std::optional<double> deadline_ms) override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto expected = expected_.find(run_id); expected != expected_.end()) {
        queue_.Update(expected->second, urgency, deadline_ms);
      }
      for (const auto& [key, run] : runs_) {
        if (run->options.run_id != run_id) continue;
        run->options.urgency = urgency;
        run->options.deadline_ms = deadline_ms;
        queue_.Update(key, urgency, deadline_ms);
      }
    }
    work_.notify_all();
  }

  void Cancel(const std::string& run_id) override {
    {
      const std::lock_guard lock(mutex_);
      Arrived(run_id);
      for (const auto& [key, run] : runs_) {
        if (run->options.run_id == run_id) Fail(*run, Cancelled());
      }
    }
    work_.notify_all();
  }

  void OnEveryLane(const std::function<void(std::uint32_t)>& task) override {
    const std::lock_guard turn(every_lane_turn_);
    std::unique_lock lock(mutex_);
    LaneTask every{&task, std::vector<bool>(lanes_.size(), false), static_cast<std::uint32_t>(lanes_.size())};
    every_lane_ = &every;
    work_.notify_all();
    every_lane_done_.wait(lock, [&] { return every.left == 0; });
    every_lane_ = nullptr;
  }

  std::uint64_t windows_done() const override { return windows_done_.load(std::memory_order_relaxed); }

  Counters counters() const override {
    const std::lock_guard lock(mutex_);
    return counters_;
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  void Lane(std::uint32_t lane) {
    Lock lock(mutex_);
    while (true) {
      if (every_lane_ != nullptr && !every_lane_->taken[lane]) {
        RunLaneTask(lane, lock);
      } else if (auto finished = TakeAtRest()) {
        Finish(std::move(finished), lock);
      } else if (const auto batch = queue_.Next(base::MonotonicMs(), lane)) {
        RunBatch(*batch, lane, lock);
      } else if (const auto until_ms = queue_.held_until_ms()) {
        work_.wait_for(lock, std::chrono::duration<double, std::milli>(*until_ms - base::MonotonicMs()));
      } else if (stopping_ && runs_.empty()) {
        return;
      } else {
        work_.wait(lock);
      }
    }
  }

  void RunLaneTask(std::uint32_t lane, Lock& lock) {
    LaneTask& every = *every_lane_;
    every.taken[lane] = true;
    lock.unlock();
    (*every.task)(lane);
    lock.lock();
    if (--every.left == 0) every_lane_done_.notify_all();
  }

  static QueuedRun QueuedOf(const Run& run) {
    return {.key = run.key,
            .batcher = run.options.batcher.get(),
            .urgency = run.options.urgency,
            .deadline_ms = run.options.deadline_ms,
            .submitted_ms = run.submitted_ms,
            .windows = run.windows};
  }

  void Arrived(const std::string& run_id) {
    const auto expected = expected_.find(run_id);
    if (expected == expected_.end()) return;
    queue_.Arrived(expected->second);
    expected_.erase(expected);
  }

  void Fail(Run& run, absl::Status status) {
    if (run.error.ok()) run.error = std::move(status);
    queue_.Remove(run.key);
  }

  // Removes and returns a run of which nothing is left to do.
  std::shared_ptr<Run> TakeAtRest() {
    const auto found =
        std::find_if(runs_.begin(), runs_.end(), [](const auto& entry) { return entry.second->AtRest(); });
    if (found == runs_.end()) return nullptr;
    auto run = std::move(found->second);
    runs_.erase(found);
    return run;
  }

  void Finish(std::shared_ptr<Run> run, Lock& lock) {
    lock.unlock();
    run->waiting.clear();
    run->job.reset();
    if (run->options.finished) {
      const absl::Status thrown = Guarded([&] {
        run->options.finished(std::move(run->error));
        return absl::OkStatus();
      });
      if (!thrown.ok()) {
        base::Log(base::LogLevel::kError, "finished_threw", {{"run_id", run->options.run_id}});
      }
    }
    run.reset();
    lock.lock();
    work_.notify_all();  // the last run may be gone
  }

  void RunBatch(const WindowBatch& batch, std::uint32_t lane, Lock& lock) {
    const double begin_ms = base::MonotonicMs();
    std::vector<Batcher::Slot> slots(batch.windows.size());
    std::vector<Run*> runs(batch.windows.size());  // stay: their windows are in hand
    for (std::size_t i = 0; i < slots.size(); ++i) {
      runs[i] = runs_.at(batch.windows[i].run).get();
      ++runs[i]->in_hand;
      slots[i].job = runs[i]->job.get();
      slots[i].window = batch.windows[i].index;
      if (slots[i].window == 0) CountFirstWindow(*runs[i], begin_ms);
    }
    lock.unlock();
    const bool retried = ForwardSlots(*batch.batcher, slots, lane);
    const double elapsed_ms = base::MonotonicMs() - begin_ms;
    lock.lock();
    queue_.Computed(batch, elapsed_ms);
    ++counters_.batches;
    counters_.windows += batch.windows.size();
    counters_.slots += batch.bucket;
    counters_.retried_batches += retried ? 1 : 0;
    for (std::size_t i = 0; i < slots.size(); ++i) {
      if (slots[i].status.ok()) {
        windows_done_.fetch_add(1, std::memory_order_relaxed);
        runs[i]->waiting.emplace(slots[i].window, std::move(slots[i].output));
      } else {
        Fail(*runs[i], std::move(slots[i].status));
      }
    }
    work_.notify_all();  // errors have made room
    // In turn: a run with much to fold does not hold up the end of its batch-mates.
    while (!runs.empty()) {
      std::erase_if(runs, [&](Run* run) {
        if (FoldNext(*run, lock)) return false;
        if (--run->in_hand == 0) work_.notify_all();  // it may be at rest
        return true;
      });
    }
    counters_.lane_busy_ms[lane] += base::MonotonicMs() - begin_ms;
  }

  void CountFirstWindow(const Run& run, double now_ms) {
    Counters::Wait& wait = counters_.first_window_wait[run.options.urgency];
    const double ms = now_ms - run.submitted_ms;
    ++wait.runs;
    wait.sum_ms += ms;
    wait.longest_ms = std::max(wait.longest_ms, ms);
  }

  // Folds the window that is next in order, if it waits and no other lane is at it. Whether the one after it
  // waits, too: other lanes have left that to this one.
  bool FoldNext(Run& run, Lock& lock) {
    if (run.folding || !run.error.ok()) return false;
    const std::uint32_t index = run.folded;
    const auto next = run.waiting.find(index);
    if (next == run.waiting.end()) return false;
    std::unique_ptr<Job::Output> output = std::move(next->second);
    run.waiting.erase(next);
    run.folding = true;
    lock.unlock();
    absl::Status status = Guarded([&] {
      absl::Status folded = run.job->Fold(index, std::move(output));
      if (folded.ok() && run.options.progress) run.options.progress(index + 1, run.windows);
      return folded;
    });
    lock.lock();
    run.folding = false;
    if (!status.ok()) {
      Fail(run, std::move(status));
      return false;
    }
    queue_.Folded(run.key, base::MonotonicMs());
    // Complete: a cancellation came too late.
    if (++run.folded == run.windows) run.error = absl::OkStatus();
    work_.notify_all();  // room for another window
    return run.waiting.contains(run.folded);
  }

  // For jobs without a model of their own.
  const std::shared_ptr<Batcher> one_by_one_ = std::make_shared<Batcher>();
  mutable std::mutex mutex_;
  std::condition_variable work_;
  RunKey next_key_ = 0;                          // guarded by mutex_
  std::map<RunKey, std::shared_ptr<Run>> runs_;  // guarded by mutex_
  WindowQueue queue_;                            // of those without an error; guarded by mutex_
  std::map<std::string, RunKey> expected_;       // by run id; guarded by mutex_
  Counters counters_;                            // guarded by mutex_
  bool stopping_ = false;                        // guarded by mutex_
  LaneTask* every_lane_ = nullptr;               // guarded by mutex_
  std::condition_variable every_lane_done_;
  std::mutex every_lane_turn_;
  std::atomic<std::uint64_t> windows_done_{0};
  std::vector<std::jthread> lanes_;  // last: the lanes use all of the above
};

}  // namespace

std::unique_ptr<Executor> Executor::Create(std::uint32_t lanes, std::uint32_t ahead) {
  return std::make_unique<LaneExecutor>(std::max(lanes, 1u), ahead);
}

}  // namespace tomoserve::executor
