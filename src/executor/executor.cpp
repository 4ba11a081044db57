#include "tomoserve/executor/executor.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "tomoserve/base/log.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"

namespace tomoserve::executor {
namespace {

absl::Status Cancelled() {
  return base::Error(absl::StatusCode::kCancelled, "CANCELLED", "", "the run was cancelled");
}

// Calls code of a job; its exceptions become its error.
template <typename Call>
absl::Status Guarded(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return base::OutOfMemory("", "a window");
  } catch (const std::exception& error) {
    return base::Error(absl::StatusCode::kInternal, "JOB_FAILED", "", error.what());
  } catch (...) {
    return base::Error(absl::StatusCode::kInternal, "JOB_FAILED", "", "unknown exception");
  }
}

// A submitted job. All members but the constants are guarded by the executor's mutex.
struct Run {
  std::shared_ptr<Job> job;
  JobOptions options;
  std::uint32_t windows = 0;

  std::uint32_t begun = 0;   // windows handed to lanes
  std::uint32_t folded = 0;  // windows folded
  std::uint32_t in_flight = 0;
  bool folding = false;  // a lane is in Fold or progress
  absl::Status error;    // the first one
  std::map<std::uint32_t, std::unique_ptr<Job::Output>> waiting;

  bool CanBegin(std::uint32_t ahead) const {
    return error.ok() && begun < windows && begun - folded <= ahead;
  }
  bool AtRest() const { return in_flight == 0 && !folding && (!error.ok() || folded == windows); }
  void Fail(absl::Status status) {
    if (error.ok()) error = std::move(status);
  }
};

// What every lane has to do once.
struct LaneTask {
  const std::function<void(std::uint32_t)>* task = nullptr;
  std::vector<bool> taken;
  std::uint32_t left = 0;
};

class LaneExecutor final : public Executor {
 public:
  LaneExecutor(std::uint32_t lanes, std::uint32_t ahead) : ahead_(ahead) {
    lanes_.reserve(lanes);
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      lanes_.emplace_back([this, lane] { Lane(lane); });
    }
  }

  ~LaneExecutor() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const auto& run : runs_) run->Fail(Cancelled());
    }
    work_.notify_all();
    lanes_.clear();  // joins
  }

  void Submit(std::shared_ptr<Job> job, JobOptions options) override {
    auto run = std::make_shared<Run>();
    run->options = std::move(options);
    run->error = Guarded([&] {
      run->windows = job->windows();
      return absl::OkStatus();
    });
    run->job = std::move(job);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) run->Fail(Cancelled());
      // Behind all that are at least as urgent.
      const auto place = std::find_if(runs_.begin(), runs_.end(), [&](const auto& other) {
        return other->options.urgency < run->options.urgency;
      });
      runs_.insert(place, std::move(run));
    }
    work_.notify_all();
  }

  void Cancel(const std::string& run_id) override {
    {
      const std::lock_guard lock(mutex_);
      for (const auto& run : runs_) {
        if (run->options.run_id == run_id) run->Fail(Cancelled());
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

 private:
  using Lock = std::unique_lock<std::mutex>;

  void Lane(std::uint32_t lane) {
    Lock lock(mutex_);
    while (true) {
      if (every_lane_ != nullptr && !every_lane_->taken[lane]) {
        RunLaneTask(lane, lock);
      } else if (auto finished = TakeAtRest()) {
        Finish(std::move(finished), lock);
      } else if (const auto run = MostUrgent()) {
        RunWindow(*run, lane, lock);
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

  // Removes and returns a run of which nothing is left to do.
  std::shared_ptr<Run> TakeAtRest() {
    const auto found =
        std::find_if(runs_.begin(), runs_.end(), [](const auto& run) { return run->AtRest(); });
    if (found == runs_.end()) return nullptr;
    auto run = std::move(*found);
    runs_.erase(found);
    return run;
  }

  void Finish(std::shared_ptr<Run> run, Lock& lock) {
    lock.unlock();
    run->waiting.clear();
    run->job.reset();
    if (run->options.finished) {
      const absl::Status thrown = Guarded([&] {
        run->options.finished(run->error);
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

  std::shared_ptr<Run> MostUrgent() const {
    const auto found =
        std::find_if(runs_.begin(), runs_.end(), [&](const auto& run) { return run->CanBegin(ahead_); });
    return found == runs_.end() ? nullptr : *found;
  }

  void RunWindow(Run& run, std::uint32_t lane, Lock& lock) {
    const std::uint32_t index = run.begun++;
    ++run.in_flight;
    lock.unlock();
    std::unique_ptr<Job::Output> output;
    absl::Status status = Guarded([&] { return run.job->Forward(index, lane, output); });
    if (status.ok()) windows_done_.fetch_add(1, std::memory_order_relaxed);
    lock.lock();
    --run.in_flight;
    if (status.ok()) {
      run.waiting.emplace(index, std::move(output));
    } else {
      run.Fail(std::move(status));
    }
    if (!run.folding) FoldWaiting(run, lock);
    work_.notify_all();
  }

  // Folds what is next in order, as long as there is some. One lane at a time per run.
  void FoldWaiting(Run& run, Lock& lock) {
    run.folding = true;
    while (run.error.ok()) {
      const auto next = run.waiting.find(run.folded);
      if (next == run.waiting.end()) break;
      std::unique_ptr<Job::Output> output = std::move(next->second);
      run.waiting.erase(next);
      const std::uint32_t index = run.folded;
      lock.unlock();
      absl::Status status = Guarded([&] {
        absl::Status folded = run.job->Fold(index, std::move(output));
        if (folded.ok() && run.options.progress) run.options.progress(index + 1, run.windows);
        return folded;
      });
      lock.lock();
      if (!status.ok()) {
        run.Fail(std::move(status));
      } else if (++run.folded == run.windows) {
        run.error = absl::OkStatus();  // complete: a cancellation came too late
        break;
      }
      work_.notify_all();  // room for another window
    }
    run.folding = false;
  }

  const std::uint32_t ahead_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::list<std::shared_ptr<Run>> runs_;  // by urgency, then arrival; guarded by mutex_
  bool stopping_ = false;                 // guarded by mutex_
  LaneTask* every_lane_ = nullptr;        // guarded by mutex_
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
