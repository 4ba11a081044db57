// A device on a virtual clock: lanes that take batches from a WindowQueue, and a network whose batches take
// as long as a test says. Checks that every window is begun once, in order, and folded in order.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <utility>
#include <vector>

#include "executor/window_queue.h"

namespace tomoserve::executor {

enum Class : std::uint32_t { kOffPeak, kRoutine, kUrgent, kStat };

class VirtualDevice {
 public:
  struct Fate {
    QueuedRun run;
    std::optional<double> end_ms = {};  // its last window was folded, or it was cancelled
    bool cancelled = false;
    std::uint32_t begun = 0;
    std::uint32_t folded = 0;
    double longest_wait_ms = 0;  // between two of its windows, or for the first one
    double last_ms = 0;
    std::set<std::uint32_t> computed = {};  // not folded yet
  };
  using CostMs = std::function<double(const WindowBatch&)>;

  VirtualDevice(std::uint32_t lanes, std::uint32_t ahead, CostMs cost_ms)
      : queue_(ahead), idle_lanes_(lanes), cost_ms_(std::move(cost_ms)) {}

  double now_ms() const { return now_ms_; }
  std::map<RunKey, Fate>& fates() { return fates_; }
  std::uint64_t windows() const { return windows_; }
  std::uint64_t slots() const { return slots_; }
  double busy_ms() const { return busy_ms_; }
  double busy_ms(const Batcher* model) { return busy_of_[model]; }
  // Of every batch, as it begins.
  std::function<void(const WindowBatch&)> began;
  // Of every batch, as it is computed.
  std::function<void(const WindowBatch&)> computed;
  // Of every run, as it ends.
  std::function<void(const Fate&)> ended;

  void At(double ms, std::function<void()> event) { events_.push({ms, next_event_++, std::move(event)}); }

  // Now, or at its time if that is later.
  RunKey Submit(Batcher& model, Class urgency, std::uint32_t windows, double at_ms = 0,
                std::optional<double> deadline_ms = {}) {
    QueuedRun run{next_key_++, &model, urgency, deadline_ms, std::max(at_ms, now_ms_), windows};
    At(run.submitted_ms, [this, run] {
      fates_[run.key] = {.run = run, .last_ms = now_ms_};
      queue_.Add(run);
    });
    return run.key;
  }

  void CancelAt(double ms, RunKey key) {
    At(ms, [this, key] {
      Fate& fate = fates_.at(key);
      if (fate.end_ms) return;
      queue_.Remove(key);
      fate.cancelled = true;
      End(fate);
    });
  }

  // Until nothing is left to do or the clock has come to `until_ms`.
  void Run(double until_ms = 1e300) {
    while (!events_.empty() && events_.top().ms <= until_ms) {
      now_ms_ = events_.top().ms;
      // All events of a moment, before the lanes look.
      while (!events_.empty() && events_.top().ms == now_ms_) {
        const auto event = std::move(const_cast<Event&>(events_.top()).happens);
        events_.pop();
        event();
      }
      BeginBatches();
    }
  }

 private:
  struct Event {
    double ms;
    std::uint64_t order;
    std::function<void()> happens;
    bool operator<(const Event& other) const {
      return std::pair(ms, order) > std::pair(other.ms, other.order);
    }
  };

  void BeginBatches() {
    while (idle_lanes_ > 0) {
      const std::optional<WindowBatch> batch = queue_.Next(now_ms_);
      if (!batch) return;
      --idle_lanes_;
      ASSERT_FALSE(batch->windows.empty());
      ASSERT_GE(batch->bucket, batch->windows.size());
      windows_ += batch->windows.size();
      slots_ += batch->bucket;
      if (began) began(*batch);
      for (const WindowBatch::Window& window : batch->windows) Begin(*batch, window);
      const double cost_ms = cost_ms_(*batch);
      busy_ms_ += cost_ms;
      busy_of_[batch->batcher] += cost_ms;
      At(now_ms_ + cost_ms, [this, batch = *batch, cost_ms] {
        ++idle_lanes_;
        queue_.Computed(batch, cost_ms);
        if (computed) computed(batch);
        for (const WindowBatch::Window& window : batch.windows) Fold(window);
      });
    }
  }

  void Begin(const WindowBatch& batch, const WindowBatch::Window& window) {
    Fate& fate = fates_.at(window.run);
    ASSERT_EQ(window.index, fate.begun) << "out of order, or twice";
    ASSERT_EQ(batch.batcher, fate.run.batcher) << "of another model";
    ASSERT_FALSE(fate.cancelled);
    ++fate.begun;
    fate.longest_wait_ms = std::max(fate.longest_wait_ms, now_ms_ - fate.last_ms);
    fate.last_ms = now_ms_;
  }

  void Fold(const WindowBatch::Window& window) {
    Fate& fate = fates_.at(window.run);
    if (fate.cancelled) return;
    ASSERT_TRUE(fate.computed.insert(window.index).second);
    while (fate.computed.erase(fate.folded) > 0) {
      ++fate.folded;
      queue_.Folded(window.run, now_ms_);
    }
    if (fate.folded == fate.run.windows) End(fate);
  }

  void End(Fate& fate) {
    ASSERT_FALSE(fate.end_ms) << "ended twice";
    fate.end_ms = now_ms_;
    if (ended) ended(fate);
  }

  WindowQueue queue_;
  std::uint32_t idle_lanes_;
  const CostMs cost_ms_;
  double now_ms_ = 0;
  RunKey next_key_ = 1;
  std::uint64_t next_event_ = 0;
  std::priority_queue<Event> events_;
  std::map<RunKey, Fate> fates_;
  std::uint64_t windows_ = 0;
  std::uint64_t slots_ = 0;
  double busy_ms_ = 0;
  std::map<const Batcher*, double> busy_of_;
};

}  // namespace tomoserve::executor
