#include "dispatch/devices.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dispatch/instance_rules.h"
#include "dispatch/worker_reply.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr int kLoadDeaths = 2;
// That prepare and finish one run on a GPU host: they copy and measure, the GPU computes.
constexpr std::size_t kMostThreads = 8;
// A window may take so many times as long as at the warm-up: the machine has other work too.
constexpr double kStallWindows = 20;

// What a worker's libraries look for in the environment, where this process was given it.
std::vector<std::string> WorkerEnvironment() {
  std::vector<std::string> environment;
  for (const char* name : {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"}) {
    if (const char* value = std::getenv(name)) environment.push_back(absl::StrCat(name, "=", value));
  }
  return environment;
}

}  // namespace

Devices::Devices(Options options, const Catalogue& catalogue, TaskQueue& coordinator)
    : options_(std::move(options)),
      catalogue_(catalogue),
      coordinator_(coordinator),
      proofs_(options_.proofs_file, options_.build) {
  for (const std::string& device : options_.devices) workers_.emplace_back().device = device;
  Publish();
}

Devices::~Devices() { Stop(); }

void Devices::Start(DeviceEvents& events) {
  events_ = &events;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    WorkerOptions options;
    options.arguments = {options_.program, "--device", worker.device};
    std::vector<std::string> more = {"--lanes", absl::StrCat(options_.cpu_lanes)};
    if (!IsCpu(i)) {
      // Launches return at once: one lane keeps a GPU busy. It has one worker, whichever front on the host
      // started it.
      const std::size_t threads = std::thread::hardware_concurrency() / workers_.size();
      more = {"--lanes",    "1",
              "--threads",  absl::StrCat(std::clamp<std::size_t>(threads, 2, kMostThreads)),
              "--lock-dir", options_.lock_folder};
    }
    if (!options_.batch_buckets.empty()) {
      more.insert(more.end(), {"--buckets", absl::StrJoin(options_.batch_buckets, ",")});
    }
    more.insert(more.end(), {"--host-bytes", absl::StrCat(HostShare())});
    options.arguments.insert(options.arguments.end(), more.begin(), more.end());
    options.environment = WorkerEnvironment();
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
  CheckIdleAgain();
}

void Devices::Stop() {
  for (Worker& worker : workers_) {
    if (worker.handle) worker.handle->Stop();
  }
  for (Worker& worker : workers_) worker.handle.reset();
}

bool Devices::IsLoading(std::size_t worker) const {
  return workers_[worker].loading != nullptr || !workers_[worker].checking.empty();
}

bool Devices::IsCpu(std::size_t worker) const { return workers_[worker].device.rfind("cpu", 0) == 0; }

const ModelOnDevice& Devices::ModelOn(std::size_t worker, const std::string& model_digest) const {
  static const ModelOnDevice* const cold = new ModelOnDevice;
  const auto model = workers_[worker].models.find(model_digest);
  return model == workers_[worker].models.end() ? *cold : model->second;
}

bool Devices::IsWarmSomewhere(const std::string& model_digest, std::optional<std::size_t> except) const {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (except != i && workers_[i].hello && ModelOn(i, model_digest).readiness == v1::MODEL_READINESS_WARM)
      return true;
  }
  return false;
}

std::uint64_t Devices::GpuBytesUsedOn(std::size_t worker) const {
  if (IsCpu(worker) || !workers_[worker].handle) return 0;
  return workers_[worker].handle->device_memory_used_bytes();
}

ComputedBatches Devices::ComputedOn(std::size_t worker) const {
  return workers_[worker].handle ? workers_[worker].handle->computed() : ComputedBatches();
}

pid_t Devices::ProcessOf(std::size_t worker) const {
  return workers_[worker].handle ? workers_[worker].handle->pid() : 0;
}

std::optional<v1::Reason> Devices::RefusedEverywhere(const std::string& model_digest) const {
  std::optional<v1::Reason> reason;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (workers_[i].lost) continue;
    const ModelOnDevice& model = ModelOn(i, model_digest);
    if (model.readiness != v1::MODEL_READINESS_REFUSED) return std::nullopt;
    reason = model.reason;
  }
  return reason;
}

absl::Status Devices::StartRun(std::size_t index, const ipc::v1::StartRun& start, const RunDemand& demand,
                               const RunEstimate& estimate, const std::vector<int>& fds) {
  Worker& worker = workers_[index];
  ipc::v1::WorkerRequest request;
  *request.mutable_start() = start;
  if (!worker.ledger.Take(start.run_id(), demand)) {
    return base::Error(absl::StatusCode::kInternal, "NO_ROOM", absl::StrCat(demand.bytes),
                       "the device has no room for the run now");
  }
  worker.runs[start.run_id()] = {
      .demand = demand,
      .model_digest = start.model_digest(),
      .work = estimate.work,
      .seconds = estimate.seconds,
      .window_ms = ModelOn(index, start.model_digest()).window_ms * std::max(estimate.work.window_ratio, 1.0),
      .number = ++runs_started_,
      .moved_ms = base::MonotonicMs()};
  worker.used_ms[start.model_digest()] = base::MonotonicMs();
  Watch(worker);
  absl::Status sent = worker.handle->Send(worker.life, request, fds);
  if (!sent.ok()) {
    worker.runs.erase(start.run_id());
    worker.ledger.Give(start.run_id());
    Watch(worker);
  }
  return sent;
}

void Devices::CancelRun(const std::string& run_id) {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    const auto run = worker.runs.find(run_id);
    if (run == worker.runs.end()) continue;
    ipc::v1::WorkerRequest request;
    request.mutable_cancel()->set_run_id(run_id);
    // A worker that is gone has lost the run anyway.
    if (const absl::Status status = worker.handle->Send(worker.life, request); !status.ok()) {
      base::Log(base::LogLevel::kInfo, "cancel_not_sent",
                {{"run_id", run_id}, {"reason", base::ReasonOf(status)}});
    }
    coordinator_.PostAfter(
        options_.patience.cancel, [this, i, run_id, life = worker.life, number = run->second.number] {
          const auto kept = workers_[i].runs.find(run_id);
          // The number is another one where the run was let go and started again.
          if (workers_[i].life != life || kept == workers_[i].runs.end() || kept->second.number != number)
            return;
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
  if (worker.lost) return;  // of a process that was started before anybody knew
  switch (reply.reply_case()) {
    case ipc::v1::WorkerReply::kHello:
      HandleHello(worker, life, reply.hello());
      break;
    case ipc::v1::WorkerReply::kUnusable:
      HandleUnusable(worker, CleanReason(reply.unusable(), "DEVICE_UNAVAILABLE"));
      break;
    case ipc::v1::WorkerReply::kModel:
      HandleModel(index, reply.model());
      break;
    case ipc::v1::WorkerReply::kProgress:
      if (!IsItsRun(worker, reply.progress().run_id())) return;
      NoteProgress(worker, reply.progress());
      CheckFirst(worker);
      events_->OnProgress(reply.progress());
      return;
    case ipc::v1::WorkerReply::kDone:
      if (!IsItsRun(worker, reply.done().run_id())) return;
      Learn(worker, reply.done());
      Forget(worker, reply.done().run_id());
      events_->OnRunDone(index, life, reply.done());
      break;
    case ipc::v1::WorkerReply::kFailed:
      if (!IsItsRun(worker, reply.failed().run_id())) return;
      Forget(worker, reply.failed().run_id());
      events_->OnRunFailed(reply.failed());
      break;
    default:
      return;
  }
  Publish();
  events_->OnDeviceChanged();
}

bool Devices::IsItsRun(Worker& worker, const std::string& run_id) {
  if (worker.runs.contains(run_id)) return true;
  base::Log(base::LogLevel::kError, "worker_lied", {{"device", worker.device}, {"field", "run_id"}});
  worker.handle->Kill(worker.life, DeathCause::kProtocol);
  return false;
}

void Devices::Forget(Worker& worker, const std::string& run_id) {
  worker.busy_ms = base::MonotonicMs();
  worker.used_ms[worker.runs.at(run_id).model_digest] = worker.busy_ms;
  worker.runs.erase(run_id);
  worker.ledger.Give(run_id);
  CheckFirst(worker);
  Watch(worker);
  LoadAgain(worker);
}

void Devices::HandleHello(Worker& worker, std::uint64_t life, const ipc::v1::Hello& hello) {
  worker.life = life;
  worker.hello = hello;
  const auto index = static_cast<std::size_t>(&worker - workers_.data());
  const std::uint32_t lanes = std::max(1u, hello.lanes());
  // A CPU's worker says what it was given; a GPU's has its own memory, and the host's beside it.
  worker.ledger = IsCpu(index) ? DeviceLedger(std::min(hello.memory_bytes(), HostShare()), 0, lanes)
                               : DeviceLedger(hello.memory_bytes(), HostShare(), lanes);
  worker.unusable.reset();
  worker.loading = nullptr;
  worker.checking.clear();
  worker.busy_ms = base::MonotonicMs();
  worker.to_load.clear();
  worker.to_load_again.clear();
  worker.load_shortages.clear();
  worker.late.clear();
  for (const models::Model& model : catalogue_.repository().models()) {
    if (!model.good()) continue;
    ModelOnDevice& state = worker.models[model.model_digest];
    if (const auto deaths = worker.load_deaths.find(model.model_digest);
        deaths != worker.load_deaths.end() && deaths->second >= kLoadDeaths) {
      state.readiness = v1::MODEL_READINESS_REFUSED;
      state.reason = MakeReason("LOAD_CRASHED", absl::StrCat(deaths->second),
                                "loading the model killed the worker, or made its device useless to it");
      continue;
    }
    state = {};
    const bool queued = std::any_of(
        worker.to_load.begin(), worker.to_load.end(),
        [&model](const models::Model* other) { return other->model_digest == model.model_digest; });
    if (!queued) worker.to_load.push_back(&model);
  }
  // A model that may have killed the worker comes last. Of the others those first that are to find room: what
  // is pinned, what runs wait for, what was used; demonstrations after the models that answer.
  std::stable_sort(worker.to_load.begin(), worker.to_load.end(), [&](const auto* a, const auto* b) {
    const auto rank = [&](const models::Model* model) {
      const std::string& digest = model->model_digest;
      const auto used = worker.used_ms.find(digest);
      return std::tuple(worker.load_deaths.contains(digest), !IsPinned(digest), RankOf(digest),
                        used == worker.used_ms.end() ? 0 : -used->second, IsDemonstration(*model));
    };
    return rank(a) < rank(b);
  });
  base::Log(
      base::LogLevel::kInfo, "worker_hello",
      {{"device", worker.device}, {"device_kind", hello.device_kind()}, {"torch", hello.torch_version()}});
  LoadNext(worker);
}

StallBounds Devices::BoundsOf(const Worker& worker) const {
  const Patience& patience = options_.patience;
  StallBounds bounds;
  for (const auto& [run_id, run] : worker.runs) {
    const std::chrono::milliseconds windows(
        static_cast<std::chrono::milliseconds::rep>(kStallWindows * run.window_ms));
    bounds = {.window = std::max({bounds.window, patience.window_stall, windows}),
              .stage = std::max({bounds.stage, patience.stage_stall, windows})};
  }
  if (worker.loading != nullptr || !worker.checking.empty()) {
    // Warming up takes every lane: a run beside it waits.
    bounds = {.window = std::max(bounds.window, patience.load_stall),
              .stage = std::max(bounds.stage, patience.load_stall)};
  }
  return bounds;
}

void Devices::Watch(Worker& worker) {
  const bool shared = worker.runs.size() > 1 || worker.loading != nullptr || !worker.checking.empty();
  for (auto& [run_id, run] : worker.runs) run.shared = run.shared || shared;
  worker.handle->Watch(worker.life, BoundsOf(worker));
}

void Devices::HandleUnusable(Worker& worker, v1::Reason reason) {
  base::Log(base::LogLevel::kError, "device_unusable",
            {{"device", worker.device}, {"reason", reason.code()}, {"value", reason.value()}});
  worker.unusable = std::move(reason);
}

void Devices::HandleDeath(std::size_t index, const WorkerDeath& death) {
  Worker& worker = workers_[index];
  if (worker.lost) return;
  const models::Model* loading = std::exchange(worker.loading, nullptr);
  const std::string checking = std::exchange(worker.checking, {});
  const auto runs = std::exchange(worker.runs, {});
  if (death.cause == DeathCause::kDeviceLost) {
    std::set<std::string> under;
    if (loading != nullptr) {
      under.insert(loading->model_digest);
    } else {
      for (const auto& [run_id, run] : runs) under.insert(run_id);
      if (!runs.empty() && !checking.empty()) under.insert(checking);
    }
    worker.lost = IsLostForGood(worker, std::move(under));
  }
  if (worker.lost) {
    worker.handle->Stop();
    HandleUnusable(worker, MakeReason("DEVICE_LOST", absl::StrCat(options_.patience.max_device_losses),
                                      "the device was lost so often within a short time that it is not used "
                                      "until the server is started again"));
  } else if (!death.said_hello && !worker.unusable) {
    const std::string how = death.signal != 0 ? absl::StrCat("signal ", death.signal)
                                              : absl::StrCat("exit code ", death.exit_code);
    HandleUnusable(worker, MakeReason("DEVICE_UNAVAILABLE", how, "the worker ended before it was ready"));
  }
  worker.hello.reset();
  worker.ledger = {};
  worker.to_load.clear();
  worker.to_load_again.clear();
  worker.restarts += worker.lost ? 0 : 1;
  base::Log(base::LogLevel::kWarning, "worker_died",
            {{"device", worker.device},
             {"signal", static_cast<std::int64_t>(death.signal)},
             {"exit_code", static_cast<std::int64_t>(death.exit_code)},
             {"watchdog", death.cause == DeathCause::kWatchdog},
             {"device_lost", death.cause == DeathCause::kDeviceLost},
             {"oom_killer", death.oom_killer}});
  for (auto& [digest, state] : worker.models) {
    if (state.readiness != v1::MODEL_READINESS_REFUSED) state = {};
  }
  if (loading != nullptr && IsBlamed(death)) {
    int& deaths = worker.load_deaths[loading->model_digest];
    // A run beside it may have been the culprit: the next loading is alone, and counts.
    deaths += runs.empty() ? 1 : 0;
    base::Log(
        base::LogLevel::kError, "load_crashed",
        {{"device", worker.device}, {"model", loading->name}, {"deaths", static_cast<std::int64_t>(deaths)}});
  }
  Publish();
  events_->OnWorkerDeath(worker.device, death);
  for (const auto& [run_id, run] : runs) {
    events_->OnRunLost(run_id, death, loading == nullptr && checking.empty() && runs.size() == 1);
  }
  events_->OnDeviceChanged();
}

bool Devices::IsLostForGood(Worker& worker, std::set<std::string> under) const {
  const double now_ms = base::MonotonicMs();
  const auto window_ms = static_cast<double>(options_.patience.device_loss_window.count());
  worker.losses.push_back({.at_ms = now_ms, .under = std::move(under)});
  while (now_ms - worker.losses.front().at_ms > window_ms) worker.losses.pop_front();
  std::set<std::string> culprits;
  std::size_t losses = 0;
  for (const Loss& loss : worker.losses) {
    if (loss.under.empty()) ++losses;
    if (loss.under.size() == 1) losses += culprits.insert(*loss.under.begin()).second ? 1 : 0;
  }
  // Of several runs one that has lost the device alone, too, explains it; so does one that was there at
  // another of these losses.
  for (const Loss& loss : worker.losses) {
    if (loss.under.size() < 2) continue;
    const bool explained = std::any_of(loss.under.begin(), loss.under.end(),
                                       [&](const std::string& run) { return culprits.contains(run); });
    losses += explained ? 0 : 1;
    culprits.insert(loss.under.begin(), loss.under.end());
  }
  return losses >= options_.patience.max_device_losses;
}

}  // namespace tomoserve::dispatch
