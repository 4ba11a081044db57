#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "dispatch/device_names.h"
#include "dispatch/dispatcher_impl.h"
#include "dispatch/helper_limits.h"
#include "tomoserve/base/clock.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"

namespace tomoserve::dispatch {
namespace {

// How long a key lives (SEMANTICS: 7 days).
constexpr std::int64_t kKeyLifeUs = 7ll * 24 * 3600 * 1000000;

absl::Status Draining() {
  return base::Error(absl::StatusCode::kUnavailable, "DRAINING", "", "the server is stopping");
}

absl::Status CheckHeader(const v1::SubmissionHeader& header) {
  const auto invalid = [](std::string_view field, std::string_view text) {
    return base::Error(absl::StatusCode::kInvalidArgument, "HEADER_INVALID", field, text);
  };
  if (!v1::Completion_IsValid(header.completion())) return invalid("completion", "no such completion");
  if (!v1::Priority_IsValid(header.priority())) return invalid("priority", "no such priority");
  if (!v1::StudyRole_IsValid(header.role())) return invalid("role", "no such role");
  if (header.completion() == v1::COMPLETION_SETTLE && header.settle_seconds() == 0) {
    return invalid("settle_seconds", "completion SETTLE needs a number of seconds");
  }
  for (const v1::ExpectedSeries& expected : header.expected_series()) {
    if (!expected.series_instance_uid().empty() && expected.instances() > 0) continue;
    return invalid("expected_series", "an expected series needs its UID and at least one instance");
  }
  if (header.idempotency_key().size() > 256) return invalid("idempotency_key", "at most 256 bytes");
  return absl::OkStatus();
}

// One open upload. Counts itself out on every way, also out of a begin that fails.
class UploadTicket {
 public:
  explicit UploadTicket(std::shared_ptr<std::atomic<std::uint32_t>> count) : count_(std::move(count)) {
    ++*count_;
  }
  ~UploadTicket() { --*count_; }
  UploadTicket(const UploadTicket&) = delete;
  UploadTicket& operator=(const UploadTicket&) = delete;

 private:
  const std::shared_ptr<std::atomic<std::uint32_t>> count_;
};

unsigned Threads(const DispatcherOptions& options) { return std::max(2u, options.config.helper_leases()); }

Devices::Options DeviceOptions(const DispatcherOptions& options) {
  Devices::Options devices;
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  devices.devices =
      ExpandDevices({options.config.devices().begin(), options.config.devices().end()}, "/dev",
                    visible == nullptr ? std::nullopt : std::optional<std::string_view>(visible));
  devices.program = options.worker_program;
  devices.lock_folder = options.lock_folder;
  const std::uint64_t machine_bytes =
      options.machine_bytes > 0 ? options.machine_bytes : base::MemoryLimitBytes();
  devices.host_bytes = machine_bytes - std::min(machine_bytes, options.config.limits().arena_bytes());
  devices.min_devices = options.config.min_devices();
  devices.grace = std::chrono::milliseconds(options.config.device_grace_ms());
  devices.patience = options.patience;
  devices.proofs_file = options.config.data() + "/bucket_proofs.txt";
  devices.build = options.build;
  devices.batch_buckets = {options.config.batch_buckets().begin(), options.config.batch_buckets().end()};
  devices.pinned = {options.config.pinned_models().begin(), options.config.pinned_models().end()};
  const auto cpus = std::count(devices.devices.begin(), devices.devices.end(), "cpu");
  devices.cpu_lanes = std::max(
      1u, options.config.cpu_lanes() / static_cast<std::uint32_t>(std::max<std::ptrdiff_t>(1, cpus)));
  return devices;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DispatcherImpl>> DispatcherImpl::Start(
    DispatcherOptions options, std::unique_ptr<ipc::HelperPool> helpers) {
  if (::access(options.worker_program.c_str(), X_OK) != 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "PROGRAM_MISSING", options.worker_program,
                       "the worker's program is not there");
  }
  if (options.build.empty()) options.build = TOMOSERVE_VERSION;
  std::error_code ignored;  // a worker that finds no folder says so
  if (options.lock_folder.empty()) {
    options.lock_folder = (std::filesystem::temp_directory_path(ignored) / "tomoserve-locks").string();
  }
  std::filesystem::create_directories(options.lock_folder, ignored);
  const std::string data = options.config.data();
  TS_ASSIGN_OR_RETURN(std::unique_ptr<store::JobStore> store, store::OpenSqliteStore(data));
  TS_ASSIGN_OR_RETURN(store::Spool spool, store::Spool::Open(data + "/spool"));
  TS_ASSIGN_OR_RETURN(
      std::unique_ptr<Catalogue> catalogue,
      Catalogue::Open({options.config.models().begin(), options.config.models().end()}, *store));
  for (const std::string& name : options.config.pinned_models()) {
    const auto& known = catalogue->repository().models();
    if (std::none_of(known.begin(), known.end(),
                     [&](const models::Model& model) { return model.name == name; })) {
      return base::Error(absl::StatusCode::kInvalidArgument, "CONFIG_INVALID", "pinned_models",
                         absl::StrCat("pinned_models: no repository has a model of the name \"", name, "\""));
    }
  }
  std::unique_ptr<DispatcherImpl> dispatcher(new DispatcherImpl(
      std::move(options), std::move(helpers), std::move(store), std::move(spool), std::move(catalogue)));
  TS_RETURN_IF_ERROR(dispatcher->CleanSpool());
  TS_RETURN_IF_ERROR(dispatcher->Resume());
  return dispatcher;
}

DispatcherImpl::DispatcherImpl(DispatcherOptions options, std::unique_ptr<ipc::HelperPool> helpers,
                               std::unique_ptr<store::JobStore> store, store::Spool spool,
                               std::unique_ptr<Catalogue> catalogue)
    : options_(std::move(options)),
      observer_(options_.observer == nullptr ? silent_ : *options_.observer),
      store_(std::move(store)),
      spool_(std::move(spool)),
      catalogue_(std::move(catalogue)),
      helpers_(std::move(helpers)),
      ledger_(options_.config.limits().arena_bytes()),
      open_uploads_(std::make_shared<std::atomic<std::uint32_t>>(0)),
      pool_(Threads(options_)),
      header_pool_(Threads(options_)),
      coordinator_(1),
      devices_(DeviceOptions(options_), *catalogue_, coordinator_),
      scheduler_({.store = *store_,
                  .preparation = {.store = *store_, .spool = spool_, .helpers = *helpers_, .ledger = ledger_},
                  .catalogue = *catalogue_,
                  .coordinator = coordinator_,
                  .pool = pool_,
                  .subscriptions = subscriptions_,
                  .observer = observer_,
                  .build = options_.build,
                  .patience = options_.patience,
                  .generations = {.generations = options_.config.max_generations_per_hour(),
                                  .within_us = options_.patience.generation_window.count() * 1000},
                  .max_study_age_days = static_cast<double>(options_.config.max_study_age_days())},
                 devices_),
      intake_(*store_, coordinator_, std::chrono::milliseconds(options_.config.idle_upload_ms()),
              [this](const std::string& study_uid) { scheduler_.StudyChanged(study_uid); }),
      upload_services_{.store = *store_,
                       .spool = spool_,
                       .helpers = *helpers_,
                       .header_pool = header_pool_,
                       .limits = options_.config.limits(),
                       .commit =
                           [this](const Proposal& proposal) {
                             absl::StatusOr<std::optional<v1::SubmissionReceipt>> receipt = Draining();
                             coordinator_.Run([&] { receipt = intake_.Commit(proposal); });
                             return receipt;
                           },
                       .add_notices =
                           [this](const std::string& study_uid, const std::vector<v1::Reason>& notices) {
                             coordinator_.Run([&] { intake_.AddStudyNotices(study_uid, notices); });
                           },
                       .observer = &observer_} {}

DispatcherImpl::~DispatcherImpl() {
  draining_ = true;
  coordinator_.Run([this] { scheduler_.StopRuns(); });
  // The coordinator first: what workers and pools still report is dropped, nothing touches the state any
  // more.
  coordinator_.Stop();
  devices_.Stop();
  pool_.Stop();
  header_pool_.Stop();
}

absl::Status DispatcherImpl::CleanSpool() {
  TS_ASSIGN_OR_RETURN(const std::vector<std::string> files, spool_.List());
  for (const std::string& submission_id : files) {
    const auto submission = store_->GetSubmission(submission_id);
    if (!submission.ok() && !absl::IsNotFound(submission.status())) return submission.status();
    const bool resumable =
        submission.ok() && (submission->acknowledged || !submission->idempotency_key.empty());
    if (resumable) continue;
    TS_RETURN_IF_ERROR(spool_.Remove(submission_id));
    base::Log(base::LogLevel::kInfo, "upload_removed", {{"submission_id", submission_id}});
  }
  return store_->ForgetKeyless("");
}

absl::Status DispatcherImpl::Resume() {
  return OnCoordinator([this]() -> absl::Status {
    TS_RETURN_IF_ERROR(intake_.Resume());
    TS_RETURN_IF_ERROR(scheduler_.Resume());
    ForgetUploads();
    devices_.Start(scheduler_);
    return absl::OkStatus();
  });
}

void DispatcherImpl::ForgetUploads() {
  const auto forgotten = store_->ForgetUploads(base::NowUs() - kKeyLifeUs);
  if (forgotten.ok()) {
    for (const std::string& submission_id : *forgotten) {
      if (const absl::Status status = spool_.Remove(submission_id); !status.ok()) {
        base::Log(base::LogLevel::kWarning, "spool_remove_failed", {{"reason", base::ReasonOf(status)}});
      }
    }
  } else {
    base::Log(base::LogLevel::kError, "uploads_not_forgotten",
              {{"reason", base::ReasonOf(forgotten.status())}});
  }
  coordinator_.PostAfter(std::chrono::hours(1), [this] { ForgetUploads(); });
}

absl::Status DispatcherImpl::OnCoordinator(const std::function<absl::Status()>& task) {
  absl::Status status = Draining();
  coordinator_.Run([&] { status = task(); });
  return status;
}

absl::StatusOr<std::unique_ptr<Upload>> DispatcherImpl::BeginUpload(const v1::SubmissionHeader& header) {
  auto upload = OpenUpload(header);
  if (!upload.ok()) observer_.OnSubmissionRefused(base::ReasonOf(upload.status()));
  return upload;
}

absl::StatusOr<std::unique_ptr<Upload>> DispatcherImpl::OpenUpload(const v1::SubmissionHeader& header) {
  if (draining_) return Draining();
  TS_RETURN_IF_ERROR(CheckHeader(header));
  const auto ticket = std::make_shared<UploadTicket>(open_uploads_);
  if (*open_uploads_ > options_.config.limits().open_uploads()) {
    return base::Error(absl::StatusCode::kResourceExhausted, "TOO_MANY_UPLOADS",
                       absl::StrCat(options_.config.limits().open_uploads()),
                       "too many uploads are open; try again");
  }
  const bool solicited =
      !header.models().empty() || header.force_rerun() || header.role() == v1::STUDY_ROLE_PRIOR;
  TS_ASSIGN_OR_RETURN(std::vector<store::WantedModel> wanted, Wanted(header.models(), solicited));
  const auto check_disk = [this]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(const std::uint64_t free_bytes, spool_.FreeBytes());
    if (free_bytes >= options_.config.limits().min_free_bytes()) return absl::OkStatus();
    return base::Error(absl::StatusCode::kResourceExhausted, "DISK_WATERMARK", absl::StrCat(free_bytes),
                       "the data folder's disk is nearly full: no new uploads");
  };
  // A repetition of what was acknowledged is answered on a full disk too.
  if (header.idempotency_key().empty()) TS_RETURN_IF_ERROR(check_disk());
  TS_ASSIGN_OR_RETURN(store::JobStore::Begun begun, store_->BeginSubmission(header));
  if (!begun.submission.acknowledged) TS_RETURN_IF_ERROR(check_disk());
  return UploadSession::Open(upload_services_, std::move(begun.submission), std::move(wanted), [ticket] {});
}

absl::StatusOr<std::vector<store::WantedModel>> DispatcherImpl::Wanted(
    const google::protobuf::RepeatedPtrField<v1::ModelSelector>& selectors, bool solicited) const {
  TS_ASSIGN_OR_RETURN(const std::vector<const models::Model*> models, catalogue_->Resolve(selectors));
  std::vector<store::WantedModel> wanted;
  for (const models::Model* model : models) {
    TS_ASSIGN_OR_RETURN(wanted.emplace_back(), catalogue_->Want(*model));
    wanted.back().solicited = solicited;
  }
  return wanted;
}

ModelStatus DispatcherImpl::StatusOf(const models::Model& model) {
  ModelStatus status;
  status.model = &model;
  if (!model.good()) return status;
  if (auto activation = catalogue_->Activation(model); activation.ok())
    status.activation = *std::move(activation);
  status.devices = devices_.ReadinessOf(model.model_digest);
  return status;
}

std::vector<ModelStatus> DispatcherImpl::Models() {
  std::vector<ModelStatus> models;
  for (const models::Model& model : catalogue_->repository().models()) models.push_back(StatusOf(model));
  return models;
}

absl::StatusOr<ModelStatus> DispatcherImpl::SetActivation(const v1::SetActivationRequest& request) {
  TS_ASSIGN_OR_RETURN(const models::Model* model, catalogue_->SetActivation(request));
  return StatusOf(*model);
}

absl::StatusOr<Reloaded> DispatcherImpl::ReloadModels() {
  TS_ASSIGN_OR_RETURN(Reloaded reloaded, catalogue_->Reload());
  const auto name = [](const models::Model& model) { return absl::StrCat(model.name, "@", model.version); };
  for (const models::Model* model : reloaded.added)
    base::Log(base::LogLevel::kInfo, "model_added", {{"model", name(*model)}});
  for (const models::Model* model : reloaded.removed)
    base::Log(base::LogLevel::kInfo, "model_removed", {{"model", name(*model)}});
  coordinator_.Run([this] {
    devices_.LoadNew();
    scheduler_.UnloadGone();
  });
  return reloaded;
}

absl::StatusOr<std::vector<v1::ActivationRecord>> DispatcherImpl::ActivationHistory(
    std::string_view name, std::string_view version) {
  return store_->ListActivations(name, version);
}

std::vector<DeviceInfo> DispatcherImpl::Devices() { return devices_.Infos(); }

Dispatcher::Subscription DispatcherImpl::Subscribe(
    std::function<void(const std::string& study_uid, const std::string& run_id)> changed) {
  return subscriptions_.Add(std::move(changed));
}

void DispatcherImpl::Drain(std::chrono::milliseconds grace) {
  draining_ = true;
  coordinator_.Run([this] { scheduler_.StopStarting(); });
  const auto end = std::chrono::steady_clock::now() + grace;
  bool busy = true;
  while (busy && std::chrono::steady_clock::now() < end) {
    busy = false;
    coordinator_.Run([&] { busy = scheduler_.IsBusy(); });
    if (busy) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  coordinator_.Run([this] { scheduler_.StopRuns(); });
}

absl::StatusOr<std::unique_ptr<Dispatcher>> StartDispatcher(DispatcherOptions options) {
  ipc::HelperPoolOptions helpers;
  helpers.program = options.helper_program;
  helpers.leases = std::max(1u, options.config.helper_leases());
  SetHelperLimits(options.config.limits(), helpers);
  if (::access(helpers.program.c_str(), X_OK) != 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "PROGRAM_MISSING", helpers.program,
                       "the helpers' program is not there");
  }
  TS_ASSIGN_OR_RETURN(std::unique_ptr<ipc::HelperPool> pool, ipc::HelperPool::Start(std::move(helpers)));
  TS_ASSIGN_OR_RETURN(std::unique_ptr<DispatcherImpl> dispatcher,
                      DispatcherImpl::Start(std::move(options), std::move(pool)));
  return dispatcher;
}

}  // namespace tomoserve::dispatch
