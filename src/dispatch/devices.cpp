#include "dispatch/devices.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/instance_rules.h"
#include "dispatch/planning.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr int kLoadDeaths = 2;
// A window may take so many times as long as at the warm-up: the machine has other work too.
constexpr double kStallWindows = 20;

std::vector<std::string> CudaDevices(const std::string& device_folder) {
  std::set<int> numbers;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(device_folder, ignored)) {
    const std::string name = entry.path().filename().string();
    const std::string digits = name.rfind("nvidia", 0) == 0 ? name.substr(6) : "";
    const bool is_number =
        !digits.empty() && digits.size() <= 3 &&
        std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); });
    if (is_number) numbers.insert(std::stoi(digits));
  }
  std::vector<std::string> devices;
  for (const int number : numbers) devices.push_back(absl::StrCat("cuda:", number));
  return devices;
}

}  // namespace

std::vector<std::string> ExpandDevices(const std::vector<std::string>& devices,
                                       const std::string& device_folder) {
  std::vector<std::string> expanded;
  for (const std::string& device : devices) {
    if (device != "auto" && device != "cuda:all") {
      expanded.push_back(device);
      continue;
    }
    const std::vector<std::string> cuda = CudaDevices(device_folder);
    expanded.insert(expanded.end(), cuda.begin(), cuda.end());
    if (cuda.empty() && device == "auto") expanded.push_back("cpu");
  }
  return expanded;
}

Devices::Devices(Options options, const Catalogue& catalogue, TaskQueue& coordinator)
    : options_(std::move(options)), catalogue_(catalogue), coordinator_(coordinator) {
  for (const std::string& device : options_.devices) workers_.emplace_back().device = device;
  Publish();
}

Devices::~Devices() { Stop(); }

void Devices::Start(DeviceEvents& events) {
  events_ = &events;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    WorkerOptions options;
    options.arguments = {options_.program, "--device", worker.device, "--lanes",
                         absl::StrCat(options_.cpu_lanes)};
    if (!IsCpu(i)) {
      // A GPU has one worker, whichever front on the host started it.
      for (const std::string& argument :
           {std::string("--lock-dir"), options_.lock_folder, std::string("--lock"), worker.device}) {
        options.arguments.push_back(argument);
      }
    }
    options.patience = options_.patience;
    worker.handle = std::make_unique<WorkerHandle>(std::move(options), [this, i](const WorkerEvent& event) {
      if (event.death != nullptr) {
        coordinator_.Post([this, i, death = *event.death] { HandleDeath(i, death); });
      } else {
        coordinator_.Post(
            [this, i, life = event.life, reply = *event.reply] { HandleReply(i, life, reply); });
      }
    });
  }
}

void Devices::Stop() {
  for (Worker& worker : workers_) {
    if (worker.handle) worker.handle->Stop();
  }
  for (Worker& worker : workers_) worker.handle.reset();
}

bool Devices::IsFree(std::size_t worker) const {
  return workers_[worker].hello.has_value() && workers_[worker].run_id.empty();
}

bool Devices::IsLoading(std::size_t worker) const { return workers_[worker].loading != nullptr; }

bool Devices::IsCpu(std::size_t worker) const { return workers_[worker].device.rfind("cpu", 0) == 0; }

ModelOnDevice Devices::ModelOn(std::size_t worker, const std::string& model_digest) const {
  const auto model = workers_[worker].models.find(model_digest);
  return model == workers_[worker].models.end() ? ModelOnDevice() : model->second;
}

bool Devices::IsWarmSomewhere(const std::string& model_digest) const {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].hello && ModelOn(i, model_digest).readiness == v1::MODEL_READINESS_WARM) return true;
  }
  return false;
}

std::optional<v1::Reason> Devices::RefusedEverywhere(const std::string& model_digest) const {
  std::optional<v1::Reason> reason;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    ModelOnDevice model = ModelOn(i, model_digest);
    if (model.readiness != v1::MODEL_READINESS_REFUSED) return std::nullopt;
    reason = std::move(model.reason);
  }
  return reason;
}

absl::Status Devices::StartRun(std::size_t index, const ipc::v1::StartRun& start,
                               const std::vector<int>& fds) {
  Worker& worker = workers_[index];
  ipc::v1::WorkerRequest request;
  *request.mutable_start() = start;
  worker.run_id = start.run_id();
  worker.window_ms = ModelOn(index, start.model_digest()).window_ms;
  Watch(worker);
  absl::Status sent = worker.handle->Send(worker.life, request, fds);
  if (!sent.ok()) {
    worker.run_id.clear();
    Watch(worker);
  }
  return sent;
}

void Devices::CancelRun(const std::string& run_id) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (worker.run_id != run_id) continue;
    ipc::v1::WorkerRequest request;
    request.mutable_cancel()->set_run_id(run_id);
    // A worker that is gone has lost the run anyway.
    if (const absl::Status status = worker.handle->Send(worker.life, request); !status.ok()) {
      base::Log(base::LogLevel::kInfo, "cancel_not_sent",
                {{"run_id", run_id}, {"reason", base::ReasonOf(status)}});
    }
    coordinator_.PostAfter(options_.patience.cancel, [this, i, run_id, life = worker.life] {
      if (workers_[i].life != life || workers_[i].run_id != run_id) return;
      base::Log(base::LogLevel::kError, "cancel_ignored",
                {{"device", workers_[i].device}, {"run_id", run_id}});
      Kill(i, life);
    });
  }
}

void Devices::Kill(std::size_t worker, std::uint64_t life) {
  if (workers_[worker].handle) workers_[worker].handle->Kill(life, DeathCause::kAsked);
}

void Devices::HandleReply(std::size_t index, std::uint64_t life, const ipc::v1::WorkerReply& reply) {
  Worker& worker = workers_[index];
  switch (reply.reply_case()) {
    case ipc::v1::WorkerReply::kHello:
      HandleHello(worker, life, reply.hello());
      break;
    case ipc::v1::WorkerReply::kModel:
      HandleModel(worker, reply.model());
      break;
    case ipc::v1::WorkerReply::kProgress:
      if (IsItsRun(worker, reply.progress().run_id())) events_->OnProgress(reply.progress());
      return;
    case ipc::v1::WorkerReply::kDone:
      if (!IsItsRun(worker, reply.done().run_id())) return;
      worker.run_id.clear();
      Watch(worker);
      events_->OnRunDone(index, life, reply.done());
      break;
    case ipc::v1::WorkerReply::kFailed:
      if (!IsItsRun(worker, reply.failed().run_id())) return;
      worker.run_id.clear();
      Watch(worker);
      events_->OnRunFailed(reply.failed());
      break;
    default:
      return;
  }
  Publish();
  events_->OnDeviceChanged();
}

bool Devices::IsItsRun(Worker& worker, const std::string& run_id) {
  if (!run_id.empty() && worker.run_id == run_id) return true;
  base::Log(base::LogLevel::kError, "worker_lied", {{"device", worker.device}, {"field", "run_id"}});
  worker.handle->Kill(worker.life, DeathCause::kProtocol);
  return false;
}

void Devices::HandleHello(Worker& worker, std::uint64_t life, const ipc::v1::Hello& hello) {
  worker.life = life;
  worker.hello = hello;
  worker.loading = nullptr;
  worker.to_load.clear();
  for (const models::Model& model : catalogue_.repository().models()) {
    if (!model.good()) continue;
    ModelOnDevice& state = worker.models[model.model_digest];
    if (const auto deaths = worker.load_deaths.find(model.model_digest);
        deaths != worker.load_deaths.end() && deaths->second >= kLoadDeaths) {
      state.readiness = v1::MODEL_READINESS_REFUSED;
      state.reason =
          MakeReason("LOAD_CRASHED", absl::StrCat(deaths->second), "loading the model killed the worker");
      continue;
    }
    state = {};
    const bool queued = std::any_of(
        worker.to_load.begin(), worker.to_load.end(),
        [&model](const models::Model* other) { return other->model_digest == model.model_digest; });
    if (!queued) worker.to_load.push_back(&model);
  }
  // A model that killed the worker once comes last, demonstrations after the models that answer.
  std::stable_sort(worker.to_load.begin(), worker.to_load.end(), [&worker](const auto* a, const auto* b) {
    const auto rank = [&worker](const models::Model* model) {
      return std::pair(worker.load_deaths.contains(model->model_digest), IsDemonstration(*model));
    };
    return rank(a) < rank(b);
  });
  base::Log(
      base::LogLevel::kInfo, "worker_hello",
      {{"device", worker.device}, {"device_kind", hello.device_kind()}, {"torch", hello.torch_version()}});
  LoadNext(worker);
}

void Devices::LoadNext(Worker& worker) {
  worker.loading = nullptr;
  while (!worker.to_load.empty()) {
    const models::Model* model = worker.to_load.front();
    worker.to_load.pop_front();
    ModelOnDevice& state = worker.models[model->model_digest];
    const absl::Status status = SendLoad(worker, *model);
    if (status.ok()) {
      state.readiness = v1::MODEL_READINESS_LOADING;
      worker.loading = model;
      break;
    }
    if (base::ReasonOf(status) == "PEER_GONE") return;
    state.readiness = v1::MODEL_READINESS_REFUSED;
    state.reason = ReasonFrom(status);
  }
  Watch(worker);
}

void Devices::Watch(Worker& worker) {
  const Patience& patience = options_.patience;
  StallBounds bounds;
  if (!worker.run_id.empty()) {
    const std::chrono::milliseconds windows(
        static_cast<std::chrono::milliseconds::rep>(kStallWindows * worker.window_ms));
    bounds = {.window = std::max(patience.window_stall, windows),
              .stage = std::max(patience.stage_stall, windows)};
  }
  if (worker.loading != nullptr) {
    // Warming up takes every lane: a run beside it waits.
    bounds = {.window = std::max(bounds.window, patience.load_stall),
              .stage = std::max(bounds.stage, patience.load_stall)};
  }
  worker.handle->Watch(worker.life, bounds);
}

absl::Status Devices::SendLoad(Worker& worker, const models::Model& model) {
  TS_ASSIGN_OR_RETURN(const std::vector<base::UniqueFd> files, models::Repository::OpenFiles(model));
  ipc::v1::WorkerRequest request;
  ipc::v1::LoadModel& load = *request.mutable_load();
  load.set_model_digest(model.model_digest);
  *load.mutable_recipe() = model.recipe;
  std::vector<int> fds;
  for (const base::UniqueFd& file : files) fds.push_back(file.get());
  for (const std::string& sha256 : model.file_sha256) load.add_file_sha256(sha256);
  return worker.handle->Send(worker.life, request, fds);
}

void Devices::HandleModel(Worker& worker, const ipc::v1::ModelState& reply) {
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
    state.weight_bytes = reply.weight_bytes();
    state.ms_per_window =
        reply.ms_per_window() >= 0 && reply.ms_per_window() < 1e9 ? reply.ms_per_window() : 0;
    state.window_ms = state.ms_per_window * PassesPerWindow(model.recipe);
    base::Log(base::LogLevel::kInfo, "model_warm",
              {{"device", worker.device},
               {"model", model.name},
               {"version", model.version},
               {"ms", reply.load_ms()}});
  } else {
    state.readiness = v1::MODEL_READINESS_REFUSED;
    state.reason = CleanReason(reply.refused(), "MODEL_REFUSED");
    base::Log(base::LogLevel::kError, "model_refused",
              {{"device", worker.device},
               {"model", model.name},
               {"version", model.version},
               {"reason", state.reason.code()}});
  }
  LoadNext(worker);
}

void Devices::HandleDeath(std::size_t index, const WorkerDeath& death) {
  Worker& worker = workers_[index];
  const models::Model* loading = std::exchange(worker.loading, nullptr);
  const std::string run_id = std::exchange(worker.run_id, "");
  worker.hello.reset();
  worker.to_load.clear();
  ++worker.restarts;
  base::Log(base::LogLevel::kWarning, "worker_died",
            {{"device", worker.device},
             {"signal", static_cast<std::int64_t>(death.signal)},
             {"exit_code", static_cast<std::int64_t>(death.exit_code)},
             {"watchdog", death.cause == DeathCause::kWatchdog},
             {"oom_killer", death.oom_killer}});
  for (auto& [digest, state] : worker.models) {
    if (state.readiness != v1::MODEL_READINESS_REFUSED) state = {};
  }
  if (loading != nullptr && IsBlamed(death)) {
    const int deaths = ++worker.load_deaths[loading->model_digest];
    base::Log(
        base::LogLevel::kError, "load_crashed",
        {{"device", worker.device}, {"model", loading->name}, {"deaths", static_cast<std::int64_t>(deaths)}});
  }
  Publish();
  if (!run_id.empty()) events_->OnRunLost(run_id, death, loading == nullptr);
  events_->OnDeviceChanged();
}

void Devices::Publish() {
  View view;
  view.ready = !workers_.empty();
  for (const Worker& worker : workers_) {
    bool settled = worker.hello.has_value();
    for (const models::Model& model : catalogue_.repository().models()) {
      if (!model.good()) continue;
      const auto found = worker.models.find(model.model_digest);
      const ModelOnDevice state = found == worker.models.end() ? ModelOnDevice() : found->second;
      settled = settled && (state.readiness == v1::MODEL_READINESS_WARM ||
                            state.readiness == v1::MODEL_READINESS_REFUSED);
      std::vector<v1::DeviceReadiness>& devices = view.models[model.model_digest];
      if (devices.size() > view.infos.size()) continue;  // an equal copy under another name
      v1::DeviceReadiness& readiness = devices.emplace_back();
      readiness.set_device(worker.device);
      readiness.set_readiness(state.readiness);
      if (state.readiness == v1::MODEL_READINESS_REFUSED) *readiness.mutable_reason() = state.reason;
      readiness.set_weight_bytes(state.weight_bytes);
      readiness.set_ms_per_window(state.ms_per_window);
    }
    view.ready = view.ready && settled;
    view.infos.push_back({.device = worker.device,
                          .device_kind = worker.hello ? worker.hello->device_kind() : "",
                          .ready = settled,
                          .restarts = worker.restarts,
                          .lanes = worker.hello ? std::max(1u, worker.hello->lanes()) : 0});
  }
  const std::lock_guard lock(view_mutex_);
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

bool Devices::ready() const {
  const std::lock_guard lock(view_mutex_);
  return view_.ready;
}

}  // namespace tomoserve::dispatch
