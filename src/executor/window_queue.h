// Which windows make the next batch of a device. Policy only: no threads, no clock of its own.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "executor/turns.h"
#include "tomoserve/executor/job.h"

namespace tomoserve::executor {

using RunKey = std::uint64_t;

// A run that could give a window and got no turn for this long rises by one class, and by one more after as
// long again. Longer than a device keeps an ordinary queue waiting, so that it stays in order; short against
// the minutes that a routine result may take.
inline constexpr double kRiseMs = 30'000;
// A batch that a risen run leads is followed by so many times its cost of batches in plain order: however
// many have risen and whatever their windows cost, those they overtake lose a sixteenth.
inline constexpr double kPlainPerRisen = 15;

// An admitted run.
struct QueuedRun {
  RunKey key = 0;              // unique; of two alike the smaller one is first
  Batcher* batcher = nullptr;  // its model; must live until its last window is computed
  std::uint32_t urgency = 0;   // class; the higher one first
  std::optional<double> deadline_ms;
  double submitted_ms = 0;
  std::uint32_t windows = 0;
};

struct WindowBatch {
  struct Window {
    RunKey run = 0;
    std::uint32_t index = 0;
  };
  Batcher* batcher = nullptr;
  std::uint32_t bucket = 0;     // slots of the pass, at least as many as windows
  std::vector<Window> windows;  // leader first; a run's in order
  std::uint32_t urgency = 0;    // of the leader: the class whose turn it was
  bool risen = false;           // the leader
  double charged_ms = 0;        // expected cost
};

// The next batch is of one model and takes what is there; nobody waits for it to fill.
//   Class: the most urgent one that has a window. Within it models take turns by device time; within a model
//   the earliest deadline, then the oldest run leads.
//   Mates: the leader's other windows, then those of the model's other runs, of any class, most urgent first.
//   Ageing: see above. A risen run is sure of one window in its batch; the rest is filled as always.
//   Expected runs: one lane for each begins nothing less urgent, for no longer than what it would begin
//   takes.
// Confined to one thread at a time. `now_ms` of all calls never falls.
class WindowQueue {
 public:
  // A run has at most `ahead` + 1 windows that are begun and not folded.
  explicit WindowQueue(std::uint32_t ahead) : ahead_(ahead) {}

  void Add(const QueuedRun& run);
  // Another class or deadline. Unknown keys are ignored.
  void Update(RunKey key, std::uint32_t urgency, std::optional<double> deadline_ms);
  // It gets no more windows. Unknown keys are ignored.
  void Remove(RunKey key);
  // The next one of its windows, in order. Unknown keys are ignored: a run whose last window is begun is
  // gone.
  void Folded(RunKey key, double now_ms);
  // A run of this class is about to be added. Unknown keys of Arrived are ignored.
  void Expect(RunKey key, std::uint32_t urgency);
  // It was, or will not be.
  void Arrived(RunKey key);
  // Begins the windows it returns, on `lane`. Nothing when no run can give one, or the lane is held.
  std::optional<WindowBatch> Next(double now_ms, std::uint32_t lane = 0);
  // When the last Next returned nothing because the lane is held: until when, unless something arrives.
  std::optional<double> held_until_ms() const { return held_until_ms_; }
  // A batch's pass took so long on its lane.
  void Computed(const WindowBatch& batch, double elapsed_ms);

 private:
  struct Entry {
    QueuedRun run;
    std::uint32_t begun = 0;
    std::uint32_t folded = 0;
    double waits_since_ms = 0;  // for a window
  };
  struct Expected {
    std::uint32_t urgency = 0;
    std::optional<std::uint32_t> lane;  // held for it
    double held_since_ms = 0;
  };
  // Models without a run of the class lose what they owe in it.
  void PruneTurns(std::uint32_t urgency);
  bool Ready(const Entry& entry) const { return entry.begun - entry.folded <= ahead_; }
  // Nothing when no run is ready.
  Entry* Leader();
  // The ready run that has risen highest, to `urgency` or above.
  Entry* Risen(std::uint32_t urgency, double now_ms);
  // The model's ready run that is first in plain order.
  Entry* FirstOf(const Batcher* model);
  // Until when the lane leaves the leader's windows alone; the past: it does not.
  double HeldUntil(const Entry& leader, double now_ms, std::uint32_t lane);
  void Take(Entry& entry, std::uint32_t most, double now_ms, WindowBatch& batch);
  // What a batch costs, or costs more than was expected.
  void Charge(const WindowBatch& batch, double ms);
  void Forget();

  const std::uint32_t ahead_;
  std::vector<Entry> entries_;            // each has a window that is not begun
  std::map<std::uint32_t, Turns> turns_;  // of each class with an entry
  std::map<RunKey, Expected> expected_;
  std::optional<double> held_until_ms_;
  double risen_ms_ = 0;        // cost of the last batch that a risen run led
  double ms_since_risen_ = 0;  // cost of those begun since then
};

}  // namespace tomoserve::executor
