#include "executor/window_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

namespace tomoserve::executor {
namespace {

// Plain order within a class: the smaller one first.
auto OrderOf(const QueuedRun& run) {
  return std::tuple(run.deadline_ms.value_or(std::numeric_limits<double>::infinity()), run.submitted_ms,
                    run.key);
}

bool Before(const QueuedRun& a, const QueuedRun& b) {
  if (a.urgency != b.urgency) return a.urgency > b.urgency;
  return OrderOf(a) < OrderOf(b);
}

}  // namespace

void WindowQueue::Add(const QueuedRun& run) {
  if (run.windows == 0) return;
  PruneTurns(run.urgency);
  entries_.push_back({.run = run, .waits_since_ms = run.submitted_ms});
}

void WindowQueue::Update(RunKey key, std::uint32_t urgency, std::optional<double> deadline_ms) {
  if (const auto expected = expected_.find(key); expected != expected_.end()) {
    expected->second.urgency = urgency;
    return;
  }
  for (Entry& entry : entries_) {
    if (entry.run.key != key) continue;
    if (entry.run.urgency != urgency) PruneTurns(urgency);
    entry.run.urgency = urgency;
    entry.run.deadline_ms = deadline_ms;
  }
  Forget();
}

void WindowQueue::PruneTurns(std::uint32_t urgency) {
  turns_[urgency].Prune([&](const Batcher* model) {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.run.batcher == model && entry.run.urgency == urgency;
    });
  });
}

void WindowQueue::Remove(RunKey key) {
  std::erase_if(entries_, [key](const Entry& entry) { return entry.run.key == key; });
  Forget();
}

void WindowQueue::Folded(RunKey key, double now_ms) {
  for (Entry& entry : entries_) {
    if (entry.run.key != key) continue;
    const bool was_ready = Ready(entry);
    ++entry.folded;
    if (!was_ready) entry.waits_since_ms = now_ms;
    return;
  }
}

void WindowQueue::Expect(RunKey key, std::uint32_t urgency) { expected_[key].urgency = urgency; }

void WindowQueue::Arrived(RunKey key) { expected_.erase(key); }

std::optional<WindowBatch> WindowQueue::Next(double now_ms, std::uint32_t lane) {
  held_until_ms_.reset();
  Entry* leader = Leader();
  if (leader == nullptr) return std::nullopt;
  WindowBatch batch;
  Entry* risen = nullptr;
  if (ms_since_risen_ >= kPlainPerRisen * risen_ms_) risen = Risen(leader->run.urgency, now_ms);
  batch.risen = risen != nullptr && risen != leader;
  if (batch.risen) leader = risen;
  if (risen == nullptr) {
    const double until_ms = HeldUntil(*leader, now_ms, lane);
    if (until_ms > now_ms) {
      held_until_ms_ = until_ms;
      return std::nullopt;
    }
  }
  batch.batcher = leader->run.batcher;
  batch.urgency = leader->run.urgency;
  Turns& turns = turns_[batch.urgency];
  if (batch.risen) {
    risen_ms_ = 0;
    ms_since_risen_ = 0;
    Take(*leader, 1, now_ms, batch);
  } else {
    turns.Take(batch.batcher);
  }
  const std::uint32_t most = batch.batcher->largest_bucket();
  while (batch.windows.size() < most) {
    Entry* next = FirstOf(batch.batcher);
    if (next == nullptr) break;
    Take(*next, most, now_ms, batch);
  }
  batch.bucket = batch.batcher->BucketFor(static_cast<std::uint32_t>(batch.windows.size()));
  batch.charged_ms = turns.CostOf(*batch.batcher, batch.bucket);
  Charge(batch, batch.charged_ms);
  std::erase_if(entries_, [](const Entry& entry) { return entry.begun == entry.run.windows; });
  Forget();
  return batch;
}

void WindowQueue::Computed(const WindowBatch& batch, double elapsed_ms) {
  if (batch.batcher->window_ms() > 0) return;
  Charge(batch, elapsed_ms - batch.charged_ms);
  if (const auto turns = turns_.find(batch.urgency); turns != turns_.end()) {
    turns->second.Measured(batch.batcher, elapsed_ms / batch.bucket);
  }
}

void WindowQueue::Charge(const WindowBatch& batch, double ms) {
  (batch.risen ? risen_ms_ : ms_since_risen_) += ms;
  if (const auto turns = turns_.find(batch.urgency); turns != turns_.end()) {
    turns->second.Charge(batch.batcher, ms);
  }
}

WindowQueue::Entry* WindowQueue::Leader() {
  Entry* first = nullptr;
  double first_start_ms = 0;
  for (Entry& entry : entries_) {
    if (!Ready(entry) || (first != nullptr && entry.run.urgency < first->run.urgency)) continue;
    const double start_ms = turns_[entry.run.urgency].StartOf(entry.run.batcher);
    if (first == nullptr || entry.run.urgency > first->run.urgency || start_ms < first_start_ms ||
        (start_ms == first_start_ms && OrderOf(entry.run) < OrderOf(first->run))) {
      first = &entry;
      first_start_ms = start_ms;
    }
  }
  return first;
}

double WindowQueue::HeldUntil(const Entry& leader, double now_ms, std::uint32_t lane) {
  const Batcher& batcher = *leader.run.batcher;
  const double cost_ms = turns_[leader.run.urgency].CostOf(batcher, batcher.largest_bucket());
  for (auto& [key, expected] : expected_) {
    if (expected.urgency <= leader.run.urgency) continue;
    if (!expected.lane) {
      expected.lane = lane;
      expected.held_since_ms = now_ms;
    }
    const double until_ms = expected.held_since_ms + cost_ms;
    if (expected.lane == lane && until_ms > now_ms) return until_ms;  // the others may hold other lanes
  }
  return now_ms;
}

WindowQueue::Entry* WindowQueue::Risen(std::uint32_t urgency, double now_ms) {
  Entry* highest = nullptr;
  double highest_class = 0;
  for (Entry& entry : entries_) {
    const double steps = std::floor((now_ms - entry.waits_since_ms) / kRiseMs);
    const double risen_class = entry.run.urgency + steps;
    if (!Ready(entry) || steps < 1 || risen_class < urgency) continue;
    if (highest == nullptr || risen_class > highest_class ||
        (risen_class == highest_class && entry.waits_since_ms < highest->waits_since_ms)) {
      highest = &entry;
      highest_class = risen_class;
    }
  }
  return highest;
}

WindowQueue::Entry* WindowQueue::FirstOf(const Batcher* model) {
  Entry* first = nullptr;
  for (Entry& entry : entries_) {
    if (entry.run.batcher != model || entry.begun == entry.run.windows || !Ready(entry)) continue;
    if (first == nullptr || Before(entry.run, first->run)) first = &entry;
  }
  return first;
}

void WindowQueue::Take(Entry& entry, std::uint32_t most, double now_ms, WindowBatch& batch) {
  const std::uint32_t slots = batch.batcher->largest_bucket();
  for (std::uint32_t taken = 0; taken < most && batch.windows.size() < slots; ++taken) {
    if (entry.begun == entry.run.windows || !Ready(entry)) break;
    batch.windows.push_back({.run = entry.run.key, .index = entry.begun++});
  }
  entry.waits_since_ms = now_ms;
}

// A class that nobody waits in has no turns: what its models owe each other ends with it.
void WindowQueue::Forget() {
  std::erase_if(turns_, [&](const auto& of_class) {
    return std::none_of(entries_.begin(), entries_.end(),
                        [&](const Entry& entry) { return entry.run.urgency == of_class.first; });
  });
}

}  // namespace tomoserve::executor
