// How models get onto devices: one after the other, again where memory did not suffice.
#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dispatch/devices.h"
#include "dispatch/instance_rules.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::dispatch {

void Devices::LoadNext(Worker& worker) {
  worker.loading = nullptr;
  worker.ledger.GiveAside();
  while (!worker.to_load.empty()) {
    const models::Model* model = worker.to_load.front();
    worker.to_load.pop_front();
    const std::uint64_t bytes = LoadBytes(worker, *model);
    if (WaitsForDemand(worker, *model)) {
      worker.models[model->model_digest].readiness = v1::MODEL_READINESS_ON_DEMAND;
      base::Log(base::LogLevel::kInfo, "model_waits_for_demand",
                {{"device", worker.device}, {"model", model->name}, {"version", model->version}});
      continue;
    }
    const bool is_wanted = RankOf(model->model_digest) < wants_.size() || IsPinned(model->model_digest);
    if (is_wanted && (worker.runs.empty() || CanMakeRoom(worker, *model, false))) {
      // One that did not fit into what it was given gets all that others can give.
      const bool gets_all = worker.load_shortages.contains(model->model_digest);
      MakeRoom(worker, model->model_digest, gets_all ? worker.ledger.budget() : bytes);
    }
    if (!worker.runs.empty() && (LoadsAlone(worker, *model) || !worker.ledger.FitsAside(bytes))) {
      worker.to_load_again.push_back(model);
      continue;
    }
    ModelOnDevice& state = worker.models[model->model_digest];
    const absl::Status status = SendLoad(worker, *model);
    if (status.ok()) {
      state.readiness = v1::MODEL_READINESS_LOADING;
      worker.loading = model;
      worker.ledger.TakeAside(bytes);
      break;
    }
    if (base::ReasonOf(status) == "PEER_GONE") return;
    state.readiness = v1::MODEL_READINESS_REFUSED;
    state.reason = ReasonFrom(status);
  }
  Watch(worker);
}

void Devices::LoadNew() {
  for (Worker& worker : workers_) {
    if (!worker.hello) continue;  // its hello will bring them
    for (const models::Model& model : catalogue_.repository().models()) {
      if (!model.good() || worker.models.contains(model.model_digest)) continue;
      worker.models[model.model_digest] = {};
      worker.late.insert(model.model_digest);
      worker.to_load.push_back(&model);
    }
    if (worker.loading == nullptr && worker.checking.empty()) LoadNext(worker);
  }
  Publish();
}

std::set<std::string> Devices::Known() const {
  std::set<std::string> known;
  for (const Worker& worker : workers_) {
    for (const auto& [digest, model] : worker.models) known.insert(digest);
  }
  return known;
}

void Devices::Unload(const std::string& model_digest) {
  for (Worker& worker : workers_) {
    if (worker.loading != nullptr && worker.loading->model_digest == model_digest) continue;  // next time
    if (worker.checking == model_digest) continue;
    const auto is_it = [&](const models::Model* model) { return model->model_digest == model_digest; };
    std::erase_if(worker.to_load, is_it);
    std::erase_if(worker.to_load_again, is_it);
    if (worker.models.erase(model_digest) == 0 || !worker.hello) continue;
    SettleModels(worker);
    ipc::v1::WorkerRequest request;
    request.mutable_unload()->set_model_digest(model_digest);
    // A worker that is gone has forgotten it anyway.
    worker.handle->Send(worker.life, request).IgnoreError();
    base::Log(base::LogLevel::kInfo, "model_unloaded", {{"device", worker.device}, {"digest", model_digest}});
  }
  Publish();
}

std::uint64_t Devices::LoadBytes(const Worker& worker, const models::Model& model) const {
  std::uint64_t bytes = CaseBytes(worker, model);
  for (const std::string& file : models::NetworkFiles(model.recipe)) {
    std::error_code error;  // what cannot be opened is refused when it is sent
    const std::uint64_t size = std::filesystem::file_size(std::filesystem::path(model.folder) / file, error);
    bytes += error ? 0 : size;
  }
  return bytes;
}

absl::Status Devices::SendLoad(Worker& worker, const models::Model& model) {
  TS_ASSIGN_OR_RETURN(const std::vector<base::UniqueFd> files, models::Repository::OpenFiles(model));
  ipc::v1::WorkerRequest request;
  ipc::v1::LoadModel& load = *request.mutable_load();
  load.set_model_digest(model.model_digest);
  *load.mutable_recipe() = model.recipe;
  if (auto proof = proofs_.Find(model, *worker.hello)) *load.mutable_proof() = *std::move(proof);
  std::vector<int> fds;
  for (const base::UniqueFd& file : files) fds.push_back(file.get());
  for (const std::string& sha256 : model.file_sha256) load.add_file_sha256(sha256);
  return worker.handle->Send(worker.life, request, fds);
}

bool Devices::LoadsAlone(const Worker& worker, const models::Model& model) {
  return worker.load_deaths.contains(model.model_digest) ||
         worker.load_shortages.contains(model.model_digest);
}

bool Devices::WillLoadAgain(std::size_t index, const models::Model& model) {
  Worker& worker = workers_[index];
  const std::uint32_t tries = ++worker.load_shortages[model.model_digest];
  if (tries >= options_.patience.max_memory_tries) return false;
  base::Log(base::LogLevel::kWarning, "model_waits_for_memory",
            {{"device", worker.device}, {"model", model.name}, {"tries", static_cast<std::int64_t>(tries)}});
  worker.models[model.model_digest] = {};
  coordinator_.PostAfter(options_.patience.first_memory_retry * (1u << std::min(tries - 1, 10u)),
                         [this, index, wanted = &model, life = worker.life] {
                           Worker& later = workers_[index];
                           if (later.life != life || !later.hello) return;
                           if (!later.models.contains(wanted->model_digest)) return;  // unloaded meanwhile
                           later.to_load_again.push_back(wanted);
                           LoadAgain(later);
                           Publish();
                         });
  return true;
}

void Devices::LoadAgain(Worker& worker) {
  if (worker.loading != nullptr || !worker.checking.empty()) return;
  if (!worker.runs.empty() || worker.to_load_again.empty()) return;
  std::swap(worker.to_load, worker.to_load_again);
  LoadNext(worker);
}

void Devices::HandleModel(std::size_t index, const ipc::v1::ModelState& reply) {
  Worker& worker = workers_[index];
  worker.busy_ms = base::MonotonicMs();
  if (!worker.checking.empty() && worker.checking == reply.model_digest()) {
    return HandleChecked(worker, reply);
  }
  if (worker.loading == nullptr || worker.loading->model_digest != reply.model_digest()) {
    base::Log(base::LogLevel::kError, "worker_lied", {{"device", worker.device}, {"field", "model_digest"}});
    worker.handle->Kill(worker.life, DeathCause::kProtocol);
    return;
  }
  const models::Model& model = *worker.loading;
  ModelOnDevice& state = worker.models[model.model_digest];
  worker.load_deaths.erase(model.model_digest);
  if (reply.warm()) {
    state.readiness = v1::MODEL_READINESS_WARM;
    state.checked_ms = worker.busy_ms;
    state.load_ms = reply.load_ms() >= 0 && reply.load_ms() < 1e9 ? reply.load_ms() : 0;
    state.loaded_ms = worker.busy_ms;
    state.weight_bytes = std::min(reply.weight_bytes(), kMostModelBytes);
    state.forward_bytes = std::min(reply.forward_bytes(), kMostModelBytes);
    state.ms_per_window =
        reply.ms_per_window() >= 0 && reply.ms_per_window() < 1e9 ? reply.ms_per_window() : 0;
    if (AreBuckets(reply.proof().buckets())) {
      state.buckets = {reply.proof().buckets().begin(), reply.proof().buckets().end()};
    }
    proofs_.Keep(model, *worker.hello, reply.proof());
    SettleModels(worker);
    state.window_ms = state.ms_per_window * models::PassesPerWindow(model.recipe);
    base::Log(base::LogLevel::kInfo, "model_warm",
              {{"device", worker.device},
               {"model", model.name},
               {"version", model.version},
               {"ms", reply.load_ms()}});
  } else if (v1::Reason reason = CleanReason(reply.refused(), "MODEL_REFUSED");
             reason.code() != "OUT_OF_MEMORY" || !WillLoadAgain(index, model)) {
    if (reason.code() == "OUT_OF_MEMORY") {
      const bool others = std::any_of(worker.models.begin(), worker.models.end(), [&](const auto& other) {
        return other.second.readiness == v1::MODEL_READINESS_WARM && !IsPinned(other.first);
      });
      if (others) {
        // It may have their room once a run waits for it.
        state.readiness = v1::MODEL_READINESS_ON_DEMAND;
        LoadNext(worker);
        return LoadAgain(worker);
      }
      reason.set_text(
          absl::StrCat(reason.text(), "; tried ", worker.load_shortages[model.model_digest], " times"));
    }
    state.readiness = v1::MODEL_READINESS_REFUSED;
    state.reason = std::move(reason);
    base::Log(base::LogLevel::kError, "model_refused",
              {{"device", worker.device},
               {"model", model.name},
               {"version", model.version},
               {"reason", state.reason.code()},
               {"value", state.reason.value()}});
  }
  LoadNext(worker);
  LoadAgain(worker);
}

}  // namespace tomoserve::dispatch
