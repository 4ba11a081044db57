#include "apps/tomoserve_worker/worker.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "apps/tomoserve_worker/guarded.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/out_of_memory.h"
#include "tomoserve/base/status.h"
#include "tomoserve/engine/runtime.h"
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

// By base::MonotonicMs; 0: none.
std::optional<double> DeadlineMs(std::int64_t unix_us) {
  if (unix_us == 0) return std::nullopt;
  return base::MonotonicMs() + static_cast<double>(unix_us - base::NowUs()) / 1000;
}

}  // namespace

Worker::Worker(Front& front, const MemoryShare& memory, engine::ComputeDevice device, std::uint32_t lanes,
               std::uint32_t threads, BucketChoice buckets)
    : front_(front),
      resources_{.device = device,
                 .in_flight = std::make_shared<engine::LaunchBound>(device.stream(), kBatchesInFlight),
                 .memory = memory,
                 .threads = static_cast<int>(threads),
                 .lanes = lanes,
                 // As many outputs may wait as the lanes compute at a time: none idles behind a slower one,
                 // and a run alone fills its batches.
                 .ahead = lanes * buckets.sizes.back()},
      buckets_(std::move(buckets)),
      executor_(executor::Executor::Create(lanes, resources_.ahead)) {}

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
      loading_.Post({}, 0, [this, shared] { Load(shared->first.load(), shared->second); });
      break;
    case ipc::v1::WorkerRequest::kStart:
      Start(std::move(*shared->first.mutable_start()), std::move(shared->second));
      break;
    case ipc::v1::WorkerRequest::kCancel:
      Cancel(shared->first.cancel().run_id());
      break;
    case ipc::v1::WorkerRequest::kUnload: {
      // Before any run that follows: the front counts on the room. Runs in flight keep their model.
      const std::lock_guard lock(mutex_);
      const auto model = models_.find(shared->first.unload().model_digest());
      if (model == models_.end()) break;
      loading_.Post({}, 0, [gone = std::move(model->second)]() mutable {
        gone.reset();
        engine::ReleaseHostMemory();
      });
      models_.erase(model);
      break;
    }
    case ipc::v1::WorkerRequest::kCheck:
      loading_.Post({}, 0, [this, shared] { Check(shared->first.check().model_digest()); });
      break;
    case ipc::v1::WorkerRequest::kUpdate:
      Update(shared->first.update());
      break;
    case ipc::v1::WorkerRequest::REQUEST_NOT_SET:
      base::Log(base::LogLevel::kWarning, "unknown_request");
      break;
  }
}

void Worker::Start(ipc::v1::StartRun start, Fds fds) {
  const auto active = std::make_shared<ActiveRun>();
  active->run_id = start.run_id();
  active->order = {.urgency = start.urgency(), .deadline_ms = DeadlineMs(start.deadline_unix_us())};
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
  preparing_.Post(active->run_id, urgency,
                  [this, active, shared] { Prepare(active, shared->first, std::move(shared->second)); });
}

void Worker::Prepare(const std::shared_ptr<ActiveRun>& active, const ipc::v1::StartRun& start, Fds fds) {
  {
    const std::lock_guard lock(mutex_);
    if (active->cancelled) return;  // answered
    active->begun = true;
  }
  executor_->Expect(active->run_id, OrderOf(*active).urgency);
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
    Submit(active, std::move(batcher), *std::move(run));
  } else {
    executor_->Cancel(active->run_id);  // it is not to be expected any more
    Answer(*active, run.status());
  }
}

void Worker::Submit(const std::shared_ptr<ActiveRun>& active, std::shared_ptr<executor::Batcher> batcher,
                    std::shared_ptr<Run> run) {
  const Order order = OrderOf(*active);
  executor::JobOptions options;
  options.run_id = active->run_id;
  options.urgency = order.urgency;
  options.deadline_ms = order.deadline_ms;
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
  options.finished = [this, active, run](const absl::Status& status) mutable {
    if (!status.ok()) {
      run.reset();
      Answer(*active, status);
      return;
    }
    // Off the lane: labels and measurements of one run do not hold up the windows of others.
    const Order posted = OrderOf(*active);
    finishing_.Post(active->run_id, posted.urgency,
                    [this, active, run = std::move(run)]() mutable { Finish(active, std::move(run)); });
    CatchUp(*active, posted, [&](const Order& now) { finishing_.Update(active->run_id, now.urgency); });
  };
  executor_->Submit(std::move(run), std::move(options));
  // A change or a cancellation before the executor knew the run.
  CatchUp(*active, order,
          [&](const Order& now) { executor_->Update(active->run_id, now.urgency, now.deadline_ms); });
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

Worker::Order Worker::OrderOf(const ActiveRun& active) {
  const std::lock_guard lock(mutex_);
  return active.order;
}

void Worker::CatchUp(const ActiveRun& active, Order applied, const std::function<void(const Order&)>& apply) {
  // Update may have applied a newer order before this one was: it counts, whoever comes last.
  for (Order now = OrderOf(active); now != applied; now = OrderOf(active)) {
    apply(now);
    applied = now;
  }
}

void Worker::Update(const ipc::v1::UpdateRun& update) {
  const Order order{.urgency = update.urgency(), .deadline_ms = DeadlineMs(update.deadline_unix_us())};
  {
    const std::lock_guard lock(mutex_);
    const auto found = runs_.find(update.run_id());
    if (found == runs_.end()) return;
    found->second->order = order;
  }
  preparing_.Update(update.run_id(), order.urgency);
  executor_->Update(update.run_id(), order.urgency, order.deadline_ms);
  finishing_.Update(update.run_id(), order.urgency);
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
  executor_->Cancel(run_id);
  if (waiting != nullptr) Answer(*waiting, Cancelled());
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
  bool idle = false;
  {
    const std::lock_guard lock(mutex_);
    runs_.erase(active.run_id);  // before the answer: the front may send the id again at once
    idle = runs_.empty();
  }
  SendResult(active, result);
  // After the answer, which does not wait for the kernel.
  idle ? engine::ReleaseHostMemory() : engine::TrimHostMemory();
}

void Worker::SendResult(const ActiveRun& active, const absl::StatusOr<ipc::v1::RunDone>& result) {
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
