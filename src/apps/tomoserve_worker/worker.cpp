#include "apps/tomoserve_worker/worker.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_join.h"
#include "apps/tomoserve_worker/model_batcher.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"
#include "tomoserve/ipc/worker_exit.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::worker {
namespace {

constexpr double kProgressMs = 200;
// Launched on a GPU and not finished: enough that it never waits for the next one.
constexpr std::size_t kBatchesInFlight = 4;

absl::Status Cancelled() {
  return base::Error(absl::StatusCode::kCancelled, "CANCELLED", "", "the run was cancelled");
}

// Exceptions of what runs on a thread of ours (out of memory, mostly) end the task, not the worker.
template <typename Call>
auto Guarded(const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return base::OutOfMemory("", "a step of the worker");
  } catch (const std::exception& error) {
    return base::Error(absl::StatusCode::kInternal, "WORKER_FAILED", "", error.what());
  }
}

}  // namespace

Worker::Worker(Front& front, engine::ComputeDevice device, std::uint64_t memory_bytes, std::uint32_t lanes,
               std::uint32_t threads, BucketChoice buckets)
    : front_(front),
      resources_{.device = device,
                 .in_flight = std::make_shared<engine::LaunchBound>(device.stream(), kBatchesInFlight),
                 .memory_bytes = memory_bytes,
                 .threads = static_cast<int>(threads)},
      buckets_(std::move(buckets)),
      // As many outputs may wait as the lanes compute at a time: none idles behind a slower one, and a run
      // alone fills its batches.
      executor_(executor::Executor::Create(lanes, lanes * buckets_.sizes.back())) {}

Worker::~Worker() {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, run] : runs_) run->cancelled = true;
}

absl::Status Worker::Serve() {
  while (true) {
    ipc::v1::WorkerRequest request;
    Fds fds;
    TS_RETURN_IF_ERROR(front_.Receive(request, fds));
    Handle(std::move(request), std::move(fds));
  }
}

void Worker::Handle(ipc::v1::WorkerRequest request, Fds fds) {
  // Tasks are copyable functions.
  const auto shared =
      std::make_shared<std::pair<ipc::v1::WorkerRequest, Fds>>(std::move(request), std::move(fds));
  switch (shared->first.request_case()) {
    case ipc::v1::WorkerRequest::kLoad:
      loading_.Post(0, [this, shared] { Load(shared->first.load(), shared->second); });
      break;
    case ipc::v1::WorkerRequest::kStart:
      Start(std::move(*shared->first.mutable_start()), std::move(shared->second));
      break;
    case ipc::v1::WorkerRequest::kCancel:
      Cancel(shared->first.cancel().run_id());
      break;
    case ipc::v1::WorkerRequest::kUnload: {
      // In order with loads; runs in flight keep their model.
      loading_.Post(0, [this, shared] {
        const std::lock_guard lock(mutex_);
        models_.erase(shared->first.unload().model_digest());
      });
      break;
    }
    case ipc::v1::WorkerRequest::REQUEST_NOT_SET:
      base::Log(base::LogLevel::kWarning, "unknown_request");
      break;
  }
}

void Worker::Load(const ipc::v1::LoadModel& load, const Fds& fds) {
  const double start_ms = base::MonotonicMs();
  auto state = Guarded([&] { return LoadAndWarmUp(load, fds); });
  if (!state.ok()) Recover(state.status());
  NoteMemoryUsed();
  ipc::v1::WorkerReply reply;
  if (state.ok()) {
    *reply.mutable_model() = *std::move(state);
  } else {
    *reply.mutable_model()->mutable_refused() = RefusalOf(state.status());
  }
  reply.mutable_model()->set_model_digest(load.model_digest());
  reply.mutable_model()->set_load_ms(base::MonotonicMs() - start_ms);
  base::Log(base::LogLevel::kInfo, "model_loaded",
            {{"model_digest", load.model_digest()},
             {"warm", reply.model().warm()},
             {"reason", reply.model().refused().code()},
             {"value", reply.model().refused().value()},
             {"ms", reply.model().load_ms()},
             {"ms_per_window", reply.model().ms_per_window()}});
  front_.Send(reply).IgnoreError();  // logged; the receiving loop ends
}

absl::StatusOr<ipc::v1::ModelState> Worker::LoadAndWarmUp(const ipc::v1::LoadModel& load, const Fds& fds) {
  TS_RETURN_IF_ERROR(models::ValidateRecipe(load.recipe()));
  std::vector<int> files;
  for (const base::UniqueFd& fd : fds) files.push_back(fd.get());
  const std::vector<std::string> digests(load.file_sha256().begin(), load.file_sha256().end());
  TS_ASSIGN_OR_RETURN(std::shared_ptr<engine::Network> network,
                      engine::Network::Load(files, load.recipe(), digests, resources_.device));
  // What a run beside it takes would be counted, too.
  const std::optional<std::uint64_t> runs_before = RunsWhenIdle();
  TS_ASSIGN_OR_RETURN(const WarmNetwork warm, WarmUp(*network, load.recipe(), *executor_, buckets_));
  base::Log(base::LogLevel::kInfo, "buckets_proved",
            {{"model_digest", load.model_digest()},
             {"buckets", absl::StrJoin(warm.buckets, ",")},
             {"ms_per_window", warm.ms_per_window},
             {"reason", base::ReasonOf(warm.not_proved)},
             {"value", base::ValueOf(warm.not_proved)}});
  ipc::v1::ModelState state;
  state.set_warm(true);
  state.set_weight_bytes(network->weight_bytes());
  state.set_ms_per_window(warm.ms_per_window);
  auto model = std::make_shared<LoadedModel>();
  if (runs_before && runs_before == RunsWhenIdle()) {
    model->forward_bytes = warm.forward_bytes;
    state.set_forward_bytes(model->forward_bytes);
  }
  model->recipe = load.recipe();
  // A pass on a CPU is computed when it returns: what it took is measured then.
  const bool is_cuda = resources_.device.is_cuda();
  const double window_ms = is_cuda ? warm.ms_per_window * models::PassesPerWindow(load.recipe()) : 0;
  model->batcher = std::make_shared<ModelBatcher>(warm.buckets, window_ms, network, resources_);
  model->network = std::move(network);
  const std::lock_guard lock(mutex_);
  models_[load.model_digest()] = std::move(model);
  return state;
}

std::shared_ptr<const LoadedModel> Worker::FindModel(const std::string& digest) {
  const std::lock_guard lock(mutex_);
  const auto found = models_.find(digest);
  return found == models_.end() ? nullptr : found->second;
}

std::uint64_t Worker::ResidentBytes() {
  const std::lock_guard lock(mutex_);
  std::uint64_t weights = 0;
  std::uint64_t forward = 0;
  for (const auto& [digest, model] : models_) {
    weights += model->network->weight_bytes();
    forward = std::max(forward, model->forward_bytes);
  }
  return weights + forward;
}

std::optional<std::uint64_t> Worker::RunsWhenIdle() {
  const std::lock_guard lock(mutex_);
  return runs_.empty() ? std::optional(runs_begun_) : std::nullopt;
}

void Worker::Start(ipc::v1::StartRun start, Fds fds) {
  const auto active = std::make_shared<ActiveRun>();
  active->run_id = start.run_id();
  {
    const std::lock_guard lock(mutex_);
    if (!runs_.emplace(active->run_id, active).second) {
      // An answer under this id would be taken for the first one's.
      base::Log(base::LogLevel::kWarning, "run_id_in_use", {{"run_id", active->run_id}});
      return;
    }
    ++runs_begun_;
  }
  const std::uint32_t urgency = start.urgency();
  const auto shared = std::make_shared<std::pair<ipc::v1::StartRun, Fds>>(std::move(start), std::move(fds));
  preparing_.Post(urgency,
                  [this, active, shared] { Prepare(active, shared->first, std::move(shared->second)); });
}

void Worker::Prepare(const std::shared_ptr<ActiveRun>& active, const ipc::v1::StartRun& start, Fds fds) {
  {
    const std::lock_guard lock(mutex_);
    if (active->cancelled) return;  // answered
    active->begun = true;
  }
  std::shared_ptr<executor::Batcher> batcher;
  auto run = Guarded([&]() -> absl::StatusOr<std::shared_ptr<Run>> {
    auto model = FindModel(start.model_digest());
    if (model == nullptr) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "MODEL_NOT_LOADED", start.model_digest(),
                         "the run's model is not loaded");
    }
    batcher = model->batcher;
    return Run::Prepare(start, std::move(fds), std::move(model), resources_, ResidentBytes(),
                        [active] { return active->cancelled.load(); });
  });
  if (run.ok()) {
    Submit(active, start.urgency(), std::move(batcher), *std::move(run));
  } else {
    Answer(*active, run.status());
  }
}

void Worker::Submit(const std::shared_ptr<ActiveRun>& active, std::uint32_t urgency,
                    std::shared_ptr<executor::Batcher> batcher, std::shared_ptr<Run> run) {
  executor::JobOptions options;
  options.run_id = active->run_id;
  options.urgency = urgency;
  options.batcher = std::move(batcher);
  options.progress = [this, active, next_ms = 0.0](std::uint32_t done, std::uint32_t total) mutable {
    NoteMemoryUsed();
    const double now_ms = base::MonotonicMs();
    if (now_ms < next_ms) return;
    next_ms = now_ms + kProgressMs;
    ipc::v1::WorkerReply reply;
    reply.mutable_progress()->set_run_id(active->run_id);
    reply.mutable_progress()->set_windows_done(done);
    reply.mutable_progress()->set_windows_total(total);
    front_.Send(reply).IgnoreError();  // logged; the receiving loop ends
  };
  // A run gives its memory back before it is answered: the front may send the next one at once.
  options.finished = [this, active, urgency, run](const absl::Status& status) mutable {
    if (!status.ok()) {
      run.reset();
      Answer(*active, status);
      return;
    }
    // Off the lane: labels and measurements of one run do not hold up the windows of others.
    finishing_.Post(urgency,
                    [this, active, run = std::move(run)]() mutable { Finish(active, std::move(run)); });
  };
  executor_->Submit(std::move(run), std::move(options));
  // A cancellation before the executor knew the run.
  if (active->cancelled) executor_->Cancel(active->run_id);
}

void Worker::Finish(const std::shared_ptr<ActiveRun>& active, std::shared_ptr<Run> run) {
  auto done = Guarded([&]() -> absl::StatusOr<ipc::v1::RunDone> {
    if (active->cancelled) return Cancelled();
    return run->Finish();
  });
  run.reset();
  if (active->cancelled) done = Cancelled();
  Answer(*active, done);
}

void Worker::Cancel(const std::string& run_id) {
  std::shared_ptr<ActiveRun> waiting;
  {
    const std::lock_guard lock(mutex_);
    const auto found = runs_.find(run_id);
    if (found == runs_.end()) return;
    found->second->cancelled = true;
    if (!found->second->begun) waiting = found->second;
  }
  if (waiting != nullptr) {
    Answer(*waiting, Cancelled());
  } else {
    executor_->Cancel(run_id);
  }
}

void Worker::Recover(const absl::Status& error) const {
  if (absl::IsCancelled(error)) return;
  if (base::ReasonOf(error) == "OUT_OF_MEMORY") {
    // The front tries again what did not fit: it shall find all memory that nobody uses.
    try {
      resources_.device.FreeCache();
    } catch (const std::exception&) {
      base::Log(base::LogLevel::kWarning, "cache_not_freed");
    }
  }
  if (resources_.device.Works()) return;
  base::Log(base::LogLevel::kError, "device_lost", {{"reason", base::ReasonOf(error)}});
  std::_Exit(ipc::kWorkerDeviceLost);
}

void Worker::Answer(const ActiveRun& active, const absl::StatusOr<ipc::v1::RunDone>& result) {
  if (!result.ok()) Recover(result.status());
  NoteMemoryUsed();
  {
    const std::lock_guard lock(mutex_);
    runs_.erase(active.run_id);  // before the answer: the front may send the id again at once
  }
  if (!result.ok()) {
    front_.SendRunFailed(active.run_id, result.status());
    return;
  }
  ipc::v1::WorkerReply reply;
  *reply.mutable_done() = *result;
  reply.mutable_done()->set_run_id(active.run_id);
  base::Log(base::LogLevel::kInfo, "run_done",
            {{"run_id", active.run_id},
             {"windows", static_cast<std::int64_t>(result->windows())},
             {"findings", static_cast<std::int64_t>(result->findings_size())}});
  const absl::Status sent = front_.Send(reply);
  if (!sent.ok() && base::ReasonOf(sent) == "RECORD_TOO_LARGE") {
    front_.SendRunFailed(active.run_id, base::Error(absl::StatusCode::kResourceExhausted, "RESULT_TOO_LARGE",
                                                    std::to_string(result->findings_size()),
                                                    "too many findings for one answer"));
  }
}

}  // namespace tomoserve::worker
