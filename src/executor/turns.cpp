#include "executor/turns.h"

#include <algorithm>

namespace tomoserve::executor {

double Turns::StartOf(const Batcher* model) const {
  const auto found = accounts_.find(model);
  return found == accounts_.end() ? now_ms_ : std::max(now_ms_, found->second.finish_ms);
}

double Turns::CostOf(const Batcher& model, std::uint32_t slots) const {
  if (model.window_ms() > 0) return model.window_ms() * slots;
  const auto found = accounts_.find(&model);
  return found == accounts_.end() ? 0 : found->second.slot_ms * slots;
}

void Turns::Take(const Batcher* model) { now_ms_ = StartOf(model); }

void Turns::Charge(const Batcher* model, double ms) { accounts_[model].finish_ms = StartOf(model) + ms; }

void Turns::Measured(const Batcher* model, double slot_ms) {
  constexpr double kWeight = 1.0 / 8;
  double& known = accounts_[model].slot_ms;
  known = known > 0 ? known + kWeight * (slot_ms - known) : slot_ms;
}

void Turns::Prune(const std::function<bool(const Batcher*)>& waits) {
  std::erase_if(accounts_,
                [&](const auto& entry) { return entry.second.finish_ms <= now_ms_ && !waits(entry.first); });
}

}  // namespace tomoserve::executor
