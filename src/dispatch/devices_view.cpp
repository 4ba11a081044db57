// What devices show of themselves to other threads, and whether there are enough of them.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dispatch/devices.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {

std::size_t Devices::Needed() const {
  return options_.min_devices > 0 ? options_.min_devices : std::max<std::size_t>(1, workers_.size());
}

void Devices::Publish() {
  View view;
  std::size_t ready = 0;
  std::size_t unusable = 0;
  for (const Worker& worker : workers_) {
    bool settled = worker.hello.has_value();
    for (const models::Model& model : catalogue_.repository().models()) {
      if (!model.good()) continue;
      const auto found = worker.models.find(model.model_digest);
      const ModelOnDevice state = found == worker.models.end() ? ModelOnDevice() : found->second;
      const bool is_late = worker.late.contains(model.model_digest) || found == worker.models.end();
      settled = settled && (is_late || state.readiness == v1::MODEL_READINESS_ON_DEMAND ||
                            state.readiness == v1::MODEL_READINESS_WARM ||
                            state.readiness == v1::MODEL_READINESS_REFUSED);
      std::vector<v1::DeviceReadiness>& devices = view.models[model.model_digest];
      if (devices.size() > view.infos.size()) continue;  // an equal copy under another name
      v1::DeviceReadiness& readiness = devices.emplace_back();
      readiness.set_device(worker.device);
      readiness.set_readiness(state.readiness);
      if (state.readiness == v1::MODEL_READINESS_REFUSED) {
        *readiness.mutable_reason() = state.reason;
      } else if (worker.unusable) {
        *readiness.mutable_reason() = *worker.unusable;
      }
      if (state.readiness == v1::MODEL_READINESS_WARM) readiness.set_weight_bytes(state.weight_bytes);
      readiness.set_ms_per_window(state.ms_per_window);
      readiness.mutable_buckets()->Assign(state.buckets.begin(), state.buckets.end());
      const auto index = static_cast<std::size_t>(&worker - workers_.data());
      const bool is_warm = state.readiness == v1::MODEL_READINESS_WARM;
      if (!is_warm && !MayGet(index, model.model_digest)) continue;
      PlanDevice& plan = view.plans[model.model_digest].emplace_back();
      plan.warm = is_warm;
      if (!is_warm) continue;
      plan.is_cpu = IsCpu(index);
      plan.weight_bytes = state.weight_bytes;
      plan.passes = PassesOn(index, model.model_digest);
      plan.ledger = worker.ledger.Idle(LeastResidentBytes(worker, model.model_digest));
      plan.learnt = times_.Find(model.model_digest, worker.hello->device_kind());
      if (state.ms_per_window > 0) {
        plan.speed =
            WindowSpeed{.ms_per_window = state.ms_per_window, .lanes = std::max(1u, worker.hello->lanes())};
      }
    }
    ready += settled ? 1 : 0;
    unusable += worker.unusable ? 1 : 0;
    view.infos.push_back({.device = worker.device,
                          .device_kind = worker.hello ? worker.hello->device_kind() : "",
                          .ready = settled,
                          .restarts = worker.restarts,
                          .lanes = worker.hello ? std::max(1u, worker.hello->lanes()) : 0,
                          .unusable = worker.unusable.value_or(v1::Reason())});
  }
  view.ready = ready >= Needed();
  const std::lock_guard lock(view_mutex_);
  if (workers_.size() - unusable < Needed()) {
    view.few_since_ms = view_.few_since_ms.value_or(base::MonotonicMs());
  }
  view_ = std::move(view);
}

std::vector<DeviceInfo> Devices::Infos() const {
  const std::lock_guard lock(view_mutex_);
  return view_.infos;
}

std::vector<v1::DeviceReadiness> Devices::ReadinessOf(const std::string& model_digest) const {
  const std::lock_guard lock(view_mutex_);
  const auto devices = view_.models.find(model_digest);
  return devices == view_.models.end() ? std::vector<v1::DeviceReadiness>() : devices->second;
}

std::vector<PlanDevice> Devices::PlansOf(const std::string& model_digest) const {
  const std::lock_guard lock(view_mutex_);
  const auto plans = view_.plans.find(model_digest);
  return plans == view_.plans.end() ? std::vector<PlanDevice>() : plans->second;
}

bool Devices::ready() const {
  const std::lock_guard lock(view_mutex_);
  return view_.ready;
}

bool Devices::TooManyLost() const {
  const std::lock_guard lock(view_mutex_);
  const auto lost =
      static_cast<std::size_t>(std::count_if(view_.infos.begin(), view_.infos.end(), [](const auto& info) {
        return info.unusable.code() == "DEVICE_LOST";
      }));
  return lost > 0 && view_.infos.size() - lost < Needed();
}

absl::Status Devices::CheckEnough() const {
  const std::lock_guard lock(view_mutex_);
  const auto grace_ms = static_cast<double>(options_.grace.count());
  if (!view_.few_since_ms || base::MonotonicMs() - *view_.few_since_ms < grace_ms) return absl::OkStatus();
  std::vector<std::string> names;
  std::vector<std::string> texts;
  for (const DeviceInfo& info : view_.infos) {
    if (info.unusable.code().empty()) continue;
    names.push_back(info.device);
    texts.push_back(absl::StrCat(info.device, ": ", info.unusable.code(), " (", info.unusable.value(),
                                 "): ", info.unusable.text()));
  }
  if (view_.infos.size() < Needed()) {
    texts.push_back(absl::StrCat("only ", view_.infos.size(), " were found"));
  }
  return base::Error(
      absl::StatusCode::kUnavailable, "DEVICE_UNAVAILABLE", absl::StrJoin(names, ","),
      absl::StrCat("fewer than ", Needed(), " devices can be used: ", absl::StrJoin(texts, "; ")));
}

}  // namespace tomoserve::dispatch
