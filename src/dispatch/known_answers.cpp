// Known answers: what they take beside runs, and how idle devices are asked for them again.
#include <algorithm>
#include <chrono>
#include <utility>

#include "dispatch/devices.h"
#include "dispatch/planning.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/known_answer_verdict.h"

namespace tomoserve::dispatch {
namespace {

double MsOf(std::chrono::milliseconds duration) { return static_cast<double>(duration.count()); }

}  // namespace

std::uint64_t Devices::CaseBytes(const Worker& worker, const models::Model& model) const {
  if (!model.recipe.has_known_answer()) return 0;
  const auto grid = volume::Geometry::FromProto(model.recipe.known_answer().geometry());
  if (!grid.ok()) return 0;  // the worker refuses it
  const auto prediction = Predict(model.recipe, *grid);
  if (!prediction.ok()) return 0;
  const auto index = static_cast<std::size_t>(&worker - workers_.data());
  return (IsCpu(index) ? prediction->cpu_bytes : prediction->gpu_bytes) +
         models::WindowBytes(model.recipe, prediction->prepared_size, prediction->windows,
                             PassesOn(index, model.model_digest));
}

bool Devices::IsDoubted(std::size_t worker, const std::string& model_digest) const {
  return workers_[worker].checking == model_digest ||
         ModelOn(worker, model_digest).readiness == v1::MODEL_READINESS_REFUSED;
}

void Devices::CheckIdleAgain() {
  // Often enough that a device's first idle moment is not missed by more than the moment itself.
  coordinator_.PostAfter(options_.patience.known_answer_idle, [this] {
    CheckIdle();
    CheckIdleAgain();
  });
}

bool Devices::IsIdle(const Worker& worker) const {
  return worker.hello && !worker.lost && worker.runs.empty() && worker.loading == nullptr &&
         worker.to_load.empty() && worker.to_load_again.empty() && worker.checking.empty() &&
         base::MonotonicMs() - worker.busy_ms >= MsOf(options_.patience.known_answer_idle);
}

void Devices::CheckIdle() {
  const bool checks = std::any_of(workers_.begin(), workers_.end(),
                                  [](const Worker& worker) { return !worker.checking.empty(); });
  if (checks) return;  // the other devices have all their strength for runs
  // The one that has waited longest.
  Worker* where = nullptr;
  const models::Model* due = nullptr;
  const double now_ms = base::MonotonicMs();
  double due_since_ms = now_ms;
  for (Worker& worker : workers_) {
    if (!IsIdle(worker)) continue;
    for (const models::Model& model : catalogue_.repository().models()) {
      if (!model.good()) continue;
      const auto state = worker.models.find(model.model_digest);
      if (state == worker.models.end() || state->second.readiness != v1::MODEL_READINESS_WARM) continue;
      const bool measures = state->second.forward_bytes == 0;  // it was loaded beside runs
      if (!measures && !model.recipe.has_known_answer()) continue;
      const std::chrono::milliseconds wait =
          measures ? options_.patience.known_answer_idle : options_.patience.known_answer_every;
      if (now_ms - state->second.checked_ms < MsOf(wait) || state->second.checked_ms > due_since_ms) continue;
      where = &worker;
      due = &model;
      due_since_ms = state->second.checked_ms;
    }
  }
  if (due == nullptr) return;
  where->checking = due->model_digest;
  where->ledger.TakeAside(CaseBytes(*where, *due));
  Watch(*where);
  ipc::v1::WorkerRequest request;
  request.mutable_check()->set_model_digest(due->model_digest);
  if (where->handle->Send(where->life, request).ok()) return;
  where->ledger.GiveAside();
  where->checking.clear();  // it is gone: its death is on the way
  Watch(*where);
}

void Devices::HandleChecked(Worker& worker, const ipc::v1::ModelState& reply) {
  worker.checking.clear();
  worker.ledger.GiveAside();
  ModelOnDevice& state = worker.models[reply.model_digest()];
  state.checked_ms = base::MonotonicMs();
  if (reply.forward_bytes() > 0) {
    state.forward_bytes = std::min(reply.forward_bytes(), kMostModelBytes);
    SettleModels(worker);
  }
  if (!reply.warm()) {
    v1::Reason reason = CleanReason(reply.refused(), "MODEL_REFUSED");
    // Where there was no answer, for want of memory mostly, the model stays, and is asked again.
    const bool stays = !models::IsWrongAnswer(reason.code(), reason.text());
    base::Log(stays ? base::LogLevel::kWarning : base::LogLevel::kError, "known_answer_failed",
              {{"device", worker.device},
               {"model_digest", reply.model_digest()},
               {"reason", reason.code()},
               {"value", reason.value()}});
    if (!stays) {
      state.readiness = v1::MODEL_READINESS_REFUSED;
      state.reason = std::move(reason);
      SettleModels(worker);
    }
  }
  worker.first.clear();  // it may have stood behind the case: its time begins now
  Watch(worker);
  // What came meanwhile.
  if (worker.loading == nullptr && !worker.to_load.empty()) LoadNext(worker);
  LoadAgain(worker);
}

}  // namespace tomoserve::dispatch
