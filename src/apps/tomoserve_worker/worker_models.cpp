// The worker's models: loaded, warmed up, tried with their known answers.
#include <algorithm>
#include <span>
#include <utility>

#include "absl/strings/str_join.h"
#include "apps/tomoserve_worker/guarded.h"
#include "apps/tomoserve_worker/known_answer.h"
#include "apps/tomoserve_worker/model_batcher.h"
#include "apps/tomoserve_worker/networks.h"
#include "apps/tomoserve_worker/worker.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/engine/runtime.h"
#include "tomoserve/models/known_answer_verdict.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::worker {
namespace {

// Of networks whose weights are not float32.
void LogFormats(const std::string& model_digest, const Networks& networks) {
  for (const auto& network : networks) {
    for (const engine::WeightFormats& formats : network->weight_formats()) {
      if (formats == engine::WeightFormats{"float32", "float32", "float32"}) continue;
      base::Log(base::LogLevel::kInfo, "weight_formats",
                {{"model_digest", model_digest},
                 {"stored", formats.stored},
                 {"held", formats.held},
                 {"input", formats.input}});
    }
  }
}

// 0 means that nothing was measured.
std::uint64_t Measured(std::uint64_t bytes) { return std::max<std::uint64_t>(bytes, 1); }

}  // namespace

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
  engine::ReleaseHostMemory();       // of the passes that warmed it up
}

absl::StatusOr<ipc::v1::ModelState> Worker::LoadAndWarmUp(const ipc::v1::LoadModel& load, const Fds& fds) {
  TS_RETURN_IF_ERROR(models::ValidateRecipe(load.recipe()));
  // Files of the network, then those of the known answer.
  const std::size_t known_files = models::KnownAnswerFiles(load.recipe()).size();
  const std::vector<std::string> all_digests(load.file_sha256().begin(), load.file_sha256().end());
  if (fds.size() < known_files || all_digests.size() != fds.size()) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REQUEST_INVALID", "file_sha256",
                       "not as many descriptors and digests as the recipe has files");
  }
  const std::size_t network_files = fds.size() - known_files;
  std::vector<int> files;
  for (std::size_t n = 0; n < network_files; ++n) files.push_back(fds[n].get());
  const std::span<const std::string> digests = std::span(all_digests).first(network_files);
  auto model = std::make_shared<LoadedModel>();
  TS_ASSIGN_OR_RETURN(model->known, LoadKnownCase(load.recipe(), std::span(fds).subspan(network_files),
                                                  std::span(all_digests).subspan(network_files)));
  TS_ASSIGN_OR_RETURN(model->networks, LoadNetworks(files, load.recipe(), digests, resources_.device));
  LogFormats(load.model_digest(), model->networks);
  // What a run beside it takes on a GPU would be counted, too: then the front asks again when it is idle.
  const std::optional<std::uint64_t> runs_before = RunsWhenIdle();
  BucketChoice choice = buckets_;
  if (std::equal(load.proof().tried().begin(), load.proof().tried().end(), choice.sizes.begin(),
                 choice.sizes.end())) {
    choice.known.assign(load.proof().buckets().begin(), load.proof().buckets().end());
  }
  TS_ASSIGN_OR_RETURN(const WarmNetwork warm, WarmUpAll(model->networks, load.recipe(), *executor_, choice));
  base::Log(base::LogLevel::kInfo, "buckets_proved",
            {{"model_digest", load.model_digest()},
             {"buckets", absl::StrJoin(warm.buckets, ",")},
             {"proved", absl::StrJoin(warm.proved, ",")},
             {"known", !choice.known.empty()},
             {"ms_per_window", warm.ms_per_window},
             {"reason", base::ReasonOf(warm.not_proved)},
             {"value", base::ValueOf(warm.not_proved)}});
  ipc::v1::ModelState state;
  state.set_warm(true);
  state.set_weight_bytes(model->weight_bytes());
  state.set_ms_per_window(warm.ms_per_window);
  state.mutable_proof()->mutable_buckets()->Assign(warm.proved.begin(), warm.proved.end());
  // Without them the front keeps no proof: what was left out is tried again at the next start.
  if (warm.all_tried) {
    state.mutable_proof()->mutable_tried()->Assign(buckets_.sizes.begin(), buckets_.sizes.end());
  }
  const bool is_cuda = resources_.device.is_cuda();
  if (!is_cuda || (runs_before && runs_before == RunsWhenIdle())) {
    model->forward_bytes = Measured(warm.forward_bytes);
    state.set_forward_bytes(model->forward_bytes);
  }
  model->recipe = load.recipe();
  // A pass on a CPU is computed when it returns: what it took is measured then.
  const double window_ms = is_cuda ? warm.ms_per_window * models::PassesPerWindow(load.recipe()) : 0;
  model->batcher = std::make_shared<ModelBatcher>(warm.buckets, window_ms, model->networks, resources_);
  TS_RETURN_IF_ERROR(CheckKnownAnswer(model, resources_, *executor_, ResidentBytes(model.get())));
  const std::lock_guard lock(mutex_);
  models_[load.model_digest()] = std::move(model);
  return state;
}

void Worker::Check(const std::string& model_digest) {
  const double start_ms = base::MonotonicMs();
  std::uint64_t forward_bytes = 0;
  const absl::Status status = Guarded([&]() -> absl::Status {
    const auto model = FindModel(model_digest);
    if (model == nullptr) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "MODEL_NOT_LOADED", model_digest,
                         "the model whose answer is asked for is not loaded");
    }
    TS_ASSIGN_OR_RETURN(forward_bytes, MeasureForward(model_digest, model));
    return CheckKnownAnswer(model, resources_, *executor_, ResidentBytes());
  });
  if (!status.ok()) Recover(status);
  NoteMemoryUsed();
  if (models::IsWrongAnswer(base::ReasonOf(status), base::ToStd(status.message()))) {
    const std::lock_guard lock(mutex_);
    models_.erase(model_digest);
  }
  ipc::v1::WorkerReply reply;
  ipc::v1::ModelState& state = *reply.mutable_model();
  state.set_model_digest(model_digest);
  state.set_warm(status.ok());
  if (!status.ok()) *state.mutable_refused() = RefusalOf(status);
  state.set_load_ms(base::MonotonicMs() - start_ms);
  state.set_forward_bytes(forward_bytes);
  base::Log(base::LogLevel::kInfo, "known_answer_checked",
            {{"model_digest", model_digest},
             {"warm", state.warm()},
             {"reason", state.refused().code()},
             {"value", state.refused().value()},
             {"ms", state.load_ms()}});
  front_.Send(reply).IgnoreError();  // logged; the receiving loop ends
  engine::ReleaseHostMemory();
}

absl::StatusOr<std::uint64_t> Worker::MeasureForward(const std::string& model_digest,
                                                     const std::shared_ptr<const LoadedModel>& model) {
  if (model->forward_bytes > 0) return model->forward_bytes;
  const std::optional<std::uint64_t> runs_before = RunsWhenIdle();
  if (!runs_before) return 0;
  std::uint64_t bytes = 0;
  for (const auto& network : model->networks) {
    TS_ASSIGN_OR_RETURN(const std::uint64_t of_network,
                        ForwardBytes(*network, *executor_, model->batcher->largest_bucket()));
    bytes = std::max(bytes, of_network);
  }
  if (runs_before != RunsWhenIdle()) return 0;
  auto known = std::make_shared<LoadedModel>(*model);
  known->forward_bytes = Measured(bytes);
  const std::lock_guard lock(mutex_);
  if (const auto found = models_.find(model_digest); found != models_.end() && found->second == model) {
    found->second = known;
  }
  return known->forward_bytes;
}

std::shared_ptr<const LoadedModel> Worker::FindModel(const std::string& digest) {
  const std::lock_guard lock(mutex_);
  const auto found = models_.find(digest);
  return found == models_.end() ? nullptr : found->second;
}

std::uint64_t Worker::ResidentBytes(const LoadedModel* another) {
  const std::lock_guard lock(mutex_);
  std::uint64_t weights = another == nullptr ? 0 : another->weight_bytes();
  std::uint64_t forward = another == nullptr ? 0 : another->forward_bytes;
  for (const auto& [digest, model] : models_) {
    weights += model->weight_bytes();
    forward = std::max(forward, model->forward_bytes);
  }
  return weights + forward;
}

std::optional<std::uint64_t> Worker::RunsWhenIdle() {
  const std::lock_guard lock(mutex_);
  return runs_.empty() ? std::optional(runs_begun_) : std::nullopt;
}

}  // namespace tomoserve::worker
