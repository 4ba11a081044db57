// Which models stay on a device whose memory does not suffice for all of them.
//
// All are loaded at the start, the pinned ones first, as long as they fit beside each other. One that does
// not is ON_DEMAND until a run waits for it, and so is one that has made room. Room is made by the models
// that no run uses there, the least recently used first. A model that a more urgent run waits for stays, and
// one that was loaded a moment ago stays for a while if other runs wait for it: else two models whose runs
// alternate would be loaded for each of these.
#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "dispatch/devices.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"

namespace tomoserve::dispatch {
namespace {

// A model that runs wait for stays so many times as long as its loading took: that costs a fifth of the time
// then.
constexpr double kStays = 4;
// How often a model that runs wait for is looked at again: that another one's time is over is no event.
constexpr std::chrono::milliseconds kLook{200};

bool IsOnDemand(const ModelOnDevice& model) { return model.readiness == v1::MODEL_READINESS_ON_DEMAND; }

bool IsWarm(const ModelOnDevice& model) { return model.readiness == v1::MODEL_READINESS_WARM; }

}  // namespace

std::uint64_t Devices::ResidentBytes(const Worker& worker,
                                     const std::function<bool(const std::string& digest)>& stay) {
  std::uint64_t weights = 0;
  std::uint64_t forward = 0;
  for (const auto& [digest, model] : worker.models) {
    if (!IsWarm(model) || !stay(digest)) continue;
    weights += model.weight_bytes;
    forward = std::max(forward, model.forward_bytes);
  }
  return weights + forward;
}

void Devices::SettleModels(Worker& worker) {
  worker.ledger.SetResident(ResidentBytes(worker, [](const std::string&) { return true; }));
}

std::uint64_t Devices::LeastResidentBytes(const Worker& worker, const std::string& model_digest) const {
  return ResidentBytes(worker,
                       [&](const std::string& digest) { return digest == model_digest || IsPinned(digest); });
}

absl::Status Devices::CheckFitsEver(std::size_t index, const std::string& model_digest,
                                    const RunDemand& demand) const {
  const Worker& worker = workers_[index];
  return worker.ledger.Idle(LeastResidentBytes(worker, model_digest)).CheckFitsEver(demand);
}

bool Devices::IsPinned(const std::string& model_digest) const {
  if (options_.pinned.empty()) return false;
  const models::Model* model = FindIn(catalogue_.repository(), "", "", model_digest);
  return model != nullptr && options_.pinned.contains(model->name);
}

std::size_t Devices::RankOf(const std::string& model_digest) const {
  const auto want = std::find_if(wants_.begin(), wants_.end(),
                                 [&](const ModelWant& other) { return other.model_digest == model_digest; });
  return static_cast<std::size_t>(want - wants_.begin());
}

bool Devices::IsUsed(const Worker& worker, const std::string& model_digest) {
  return worker.checking == model_digest ||
         std::any_of(worker.runs.begin(), worker.runs.end(),
                     [&](const auto& run) { return run.second.model_digest == model_digest; });
}

bool Devices::MayGo(const Worker& worker, const std::string& model_digest, std::size_t for_rank) const {
  if (IsPinned(model_digest)) return false;
  const std::size_t rank = RankOf(model_digest);
  if (rank == wants_.size()) return true;
  if (rank < for_rank) return false;
  const ModelOnDevice& model = worker.models.at(model_digest);
  const bool is_fresh = base::MonotonicMs() - model.loaded_ms < kStays * model.load_ms;
  return !is_fresh || (for_rank < rank && wants_[for_rank].urgency > wants_[rank].urgency);
}

bool Devices::CanMakeRoom(const Worker& worker, const models::Model& model, bool once_idle) const {
  const std::size_t rank = RankOf(model.model_digest);
  const std::uint64_t resident = ResidentBytes(worker, [&](const std::string& digest) {
    return !MayGo(worker, digest, rank) || (!once_idle && IsUsed(worker, digest));
  });
  const bool all_go =
      resident == ResidentBytes(worker, [&](const std::string& digest) { return IsPinned(digest); });
  if (worker.load_shortages.contains(model.model_digest)) return all_go;
  const std::uint64_t bytes = LoadBytes(worker, model);
  // Alone it gets what there is.
  if (once_idle) return all_go || worker.ledger.Idle(0).FitsBeside(bytes, resident);
  return worker.ledger.FitsBeside(bytes, resident);
}

void Devices::MakeRoom(Worker& worker, const std::string& model_digest, std::uint64_t bytes) {
  const std::size_t rank = RankOf(model_digest);
  std::vector<std::pair<double, std::string>> others;  // by their last use
  for (const auto& [digest, model] : worker.models) {
    if (!IsWarm(model) || digest == model_digest) continue;
    if (IsUsed(worker, digest) || !MayGo(worker, digest, rank)) continue;
    const auto used = worker.used_ms.find(digest);
    others.emplace_back(used == worker.used_ms.end() ? 0 : used->second, digest);
  }
  std::sort(others.begin(), others.end());
  for (const auto& [used_ms, digest] : others) {
    if (worker.ledger.FitsBeside(bytes, worker.ledger.resident())) return;
    Evict(worker, digest);
  }
}

void Devices::Evict(Worker& worker, const std::string& model_digest) {
  ModelOnDevice& model = worker.models.at(model_digest);
  model.readiness = v1::MODEL_READINESS_ON_DEMAND;
  SettleModels(worker);
  ipc::v1::WorkerRequest request;
  request.mutable_unload()->set_model_digest(model_digest);
  // A worker that is gone has forgotten it anyway.
  worker.handle->Send(worker.life, request).IgnoreError();
  base::Log(base::LogLevel::kInfo, "model_made_room",
            {{"device", worker.device},
             {"digest", model_digest},
             {"weight_bytes", static_cast<std::int64_t>(model.weight_bytes)}});
}

bool Devices::MakeRoomFor(std::size_t index, const std::string& model_digest, const RunDemand& demand) {
  Worker& worker = workers_[index];
  if (!worker.hello || !worker.runs.empty() || IsLoading(index)) return false;
  const std::size_t rank = RankOf(model_digest);
  const std::uint64_t resident = ResidentBytes(worker, [&](const std::string& digest) {
    return digest == model_digest || !MayGo(worker, digest, rank);
  });
  // Nothing is unloaded in vain.
  if (!worker.ledger.Idle(resident).Fits(demand)) {
    LookAgain();
    return false;
  }
  MakeRoom(worker, model_digest, demand.bytes);
  Publish();
  return HasRoom(index, demand);
}

bool Devices::WaitsForDemand(const Worker& worker, const models::Model& model) const {
  if (IsPinned(model.model_digest)) return false;
  const auto state = worker.models.find(model.model_digest);
  const bool on_demand = state != worker.models.end() && IsOnDemand(state->second);
  if (RankOf(model.model_digest) < wants_.size()) return !CanMakeRoom(worker, model, true);
  const std::uint64_t resident = worker.ledger.resident();
  return on_demand || (resident > 0 && !worker.ledger.Idle(0).FitsBeside(LoadBytes(worker, model), resident));
}

void Devices::LookAgain() {
  if (std::exchange(looks_again_, true)) return;
  coordinator_.PostAfter(kLook, [this] {
    looks_again_ = false;
    events_->OnDeviceChanged();
  });
}

void Devices::LoadWanted(std::vector<ModelWant> wants) {
  wants_ = std::move(wants);
  bool changed = false;
  for (const ModelWant& want : wants_) {
    // One that has left the repository cannot be loaded.
    const models::Model* model = FindIn(catalogue_.repository(), "", "", want.model_digest);
    if (model == nullptr) continue;
    const auto is_it = [&](const models::Model* other) { return other->model_digest == want.model_digest; };
    const bool is_coming = std::any_of(workers_.begin(), workers_.end(), [&](const Worker& worker) {
      if (!worker.hello) return false;
      const auto state = worker.models.find(want.model_digest);
      return (state != worker.models.end() && ((IsWarm(state->second) && !want.does_not_fit) ||
                                               state->second.readiness == v1::MODEL_READINESS_LOADING)) ||
             std::any_of(worker.to_load.begin(), worker.to_load.end(), is_it) ||
             std::any_of(worker.to_load_again.begin(), worker.to_load_again.end(), is_it);
    });
    if (is_coming) continue;
    Worker* best = nullptr;
    bool at_once = false;
    bool waits = false;
    for (Worker& worker : workers_) {
      const auto state = worker.models.find(want.model_digest);
      if (!worker.hello || state == worker.models.end() || !IsOnDemand(state->second)) continue;
      waits = true;
      const bool now = CanMakeRoom(worker, *model, false);
      if (!now && !CanMakeRoom(worker, *model, true)) continue;
      const auto key = [](bool has_room, const Worker& other) {
        return std::pair(!has_room, other.runs.size());
      };
      if (best != nullptr && key(at_once, *best) <= key(now, worker)) continue;
      best = &worker;
      at_once = now;
    }
    if (best == nullptr) {
      if (waits) LookAgain();
      continue;
    }
    // Where it waits for the runs that are there, no other run follows them.
    (at_once ? best->to_load : best->to_load_again).push_back(model);
    if (best->loading == nullptr && best->checking.empty()) {
      LoadNext(*best);
      LoadAgain(*best);
    }
    changed = true;
  }
  if (changed) Publish();
}

}  // namespace tomoserve::dispatch
