// Whose turn it is among models that compete within one class.
#pragma once

#include <functional>
#include <map>

#include "tomoserve/executor/job.h"

namespace tomoserve::executor {

// Equal shares of device time, however long a model's windows are (start-time fair queueing): each batch
// moves its model on by what it costs, and the model that has come least far is next. Who comes back starts
// where the others are: time without windows earns no credit. Confined to one thread at a time.
class Turns {
 public:
  // How far the model is, ms: the smallest one is next.
  double StartOf(const Batcher* model) const;
  // What a batch of `slots` will cost: by what the model states, or else as its last ones.
  double CostOf(const Batcher& model, std::uint32_t slots) const;
  // The model's turn was taken.
  void Take(const Batcher* model);
  // The model used the device; less than 0 gives back.
  void Charge(const Batcher* model, double ms);
  // How long a slot of the model's last batch took.
  void Measured(const Batcher* model, double slot_ms);
  // Forgets models that owe nothing and of which `waits` does not hold.
  void Prune(const std::function<bool(const Batcher*)>& waits);

 private:
  struct Account {
    double finish_ms = 0;
    double slot_ms = 0;  // measured, smoothed; 0: not yet
  };
  double now_ms_ = 0;  // start of the last turn
  // Only compared: a model may be gone while its account lasts, so that a model whose runs come one at a time
  // still pays for them.
  std::map<const Batcher*, Account> accounts_;
};

}  // namespace tomoserve::executor
