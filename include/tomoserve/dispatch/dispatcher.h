// From uploads to results: owns the helpers, the workers, the spool and the store; decides what runs where
// and when, retries, blames, quarantines, cancels, drains. `service` only translates to and from gRPC.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/config/v1/server.pb.h"
#include "tomoserve/dispatch/observer.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/model_service.pb.h"
#include "tomoserve/v1/study.pb.h"
#include "tomoserve/v1/study_service.pb.h"

namespace tomoserve::dispatch {

// One upload in progress. Confined to one thread at a time (the service's serialised handler); every method
// may block on disk and must run on a pool thread, never on gRPC's. Dropping it without Finish leaves a
// resumable upload when it has an idempotency key, and removes it otherwise.
class Upload {
 public:
  virtual ~Upload() = default;
  // What a resumed upload already has.
  virtual v1::UploadState state() const = 0;
  // Set when this key was acknowledged before: answer with it, nothing to send.
  virtual std::optional<v1::SubmissionReceipt> receipt() const = 0;
  // An instance that is too large or empty is refused by its status alone; its bytes are thrown away and the
  // others go on. Errors end the upload: kInvalidArgument KEY_INVALID, KEY_REPEATED, INSTANCE_SIZE,
  // TOO_MANY_INSTANCES, STUDY_TOO_LARGE (bytes; value: the limit); kResourceExhausted DISK_FULL.
  virtual absl::Status BeginInstance(const v1::InstanceStart& start) = 0;
  virtual absl::Status Append(std::string_view bytes) = 0;
  // Statuses of instances judged since the last call (the header pass runs behind).
  virtual std::vector<v1::InstanceStatus> TakeStatuses() = 0;
  // Ends the stream: waits for the header pass, checks identity, syncs, commits. Errors: kInvalidArgument
  // EMPTY_STUDY, ALL_REFUSED (value: the first reason), NO_IMAGES (a FINAL submission),
  // TOO_MANY_INSTANCES, STUDY_TOO_LARGE, INSTANCE_SIZE; kResourceExhausted DISK_FULL; kUnavailable DRAINING,
  // HELPER_UNAVAILABLE (the headers could not be read now: try again, with a key from where it stopped); or
  // what an earlier method failed with.
  virtual absl::StatusOr<v1::SubmissionReceipt> Finish() = 0;
};

struct DeviceInfo {
  std::string device;       // "cpu", "cuda:0"
  std::string device_kind;  // from the worker's Hello
  bool ready = false;
  std::uint32_t restarts = 0;
  std::uint32_t lanes = 0;  // windows computed at a time; 0 until the worker says hello
  v1::Reason unusable;      // why its worker cannot start; without a code: it can, or is starting
};

// A model's readiness per device, for ModelService.
struct ModelStatus {
  const models::Model* model = nullptr;
  v1::ActivationRecord activation;
  std::vector<v1::DeviceReadiness> devices;
};

// What a reload of the repository has changed. Valid as long as the dispatcher.
struct Reloaded {
  std::vector<const models::Model*> added;    // good versions that were not there with these files
  std::vector<const models::Model*> removed;  // good versions that are not there any more with theirs
};

class Dispatcher {
 public:
  virtual ~Dispatcher() = default;

  // Errors: UNKNOWN_MODEL, MODEL_REFUSED, IDEMPOTENCY_KEY_REUSED, DISK_WATERMARK, TOO_MANY_UPLOADS, DRAINING,
  // UPLOAD_IN_PROGRESS (the same key is being sent by another stream).
  virtual absl::StatusOr<std::unique_ptr<Upload>> BeginUpload(const v1::SubmissionHeader& header) = 0;

  virtual absl::StatusOr<v1::Study> GetStudy(std::string_view study_uid) = 0;
  virtual absl::StatusOr<v1::Study> CloseStudy(std::string_view study_uid) = 0;
  virtual absl::StatusOr<v1::CancelStudyResponse> CancelStudy(std::string_view study_uid,
                                                              std::string_view submission_id) = 0;
  // Another priority or deadline of a study and of its runs; those on a device change places there. Errors:
  // UNKNOWN_STUDY, kInvalidArgument UPDATE_INVALID (value: the field), DRAINING.
  virtual absl::StatusOr<v1::Study> UpdateStudy(const v1::UpdateStudyRequest& request) = 0;
  virtual absl::StatusOr<v1::PlanStudyResponse> PlanStudy(const v1::PlanStudyRequest& request) = 0;
  // New generations of runs on what is stored, also of those that are held. Without models those that the
  // study has. The wish is a submission of its own, which CancelStudy ends. Errors: UNKNOWN_STUDY, those of
  // BeginUpload for the models, kFailedPrecondition NOTHING_TO_RERUN, DRAINING.
  virtual absl::StatusOr<v1::RerunStudyResponse> RerunStudy(const v1::RerunStudyRequest& request) = 0;
  virtual std::vector<ModelStatus> Models() = 0;
  // What a version may do from now on; runs that are queued or running go on. Errors: UNKNOWN_MODEL,
  // UNKNOWN_VERSION, MODEL_REFUSED, ACTIVATION_INVALID (value: the field).
  virtual absl::StatusOr<ModelStatus> SetActivation(const v1::SetActivationRequest& request) = 0;
  // Reads the repository's folders again; blocks while their files are digested. Runs go on with the version
  // that they began with. Errors: MODELS_FOLDER, after which nothing has changed.
  virtual absl::StatusOr<Reloaded> ReloadModels() = 0;
  // Every stage that a version had, oldest first.
  virtual absl::StatusOr<std::vector<v1::ActivationRecord>> ActivationHistory(std::string_view name,
                                                                              std::string_view version) = 0;
  virtual std::vector<DeviceInfo> Devices() = 0;
  virtual store::JobStore& store() = 0;

  // Calls `changed(study_uid, run_id)` after each change of a run (state, progress), from the dispatcher's
  // thread; it must not block or call back. The subscription ends with the returned handle.
  using Subscription = std::shared_ptr<void>;
  virtual Subscription Subscribe(
      std::function<void(const std::string& study_uid, const std::string& run_id)> changed) = 0;

  // Ready: helpers answer, all devices said hello, pinned (ACTIVE) models are warm.
  bool ready() { return NotReady().empty(); }
  // Why it is not ready: DRAINING, HELPER_UNAVAILABLE, STARTING (devices or models come up for the first
  // time), DEVICE_UNAVAILABLE (a worker died or cannot start), DEVICE_LOST (a device was lost so often that
  // it is not used any more, and too few are left). Empty when it is.
  virtual std::string NotReady() = 0;
  // kUnavailable DEVICE_UNAVAILABLE (value: the devices) once, for the whole grace time of the configuration,
  // fewer devices could be used than must be: the program is to end. Never a silent fall-back to the CPU.
  virtual absl::Status CheckDevices() { return absl::OkStatus(); }
  // Whether decisions are still made. Calls that come while one waits wait for the same answer. Errors:
  // kDeadlineExceeded COORDINATOR_STALLED (value: milliseconds), kUnavailable DRAINING (it has ended).
  virtual absl::Status CheckAlive(std::chrono::milliseconds patience) = 0;
  // What goes on now. Reads the spool's folder. Errors: those of CheckAlive.
  virtual absl::StatusOr<Activity> Observe(std::chrono::milliseconds patience) = 0;
  // Stops new uploads; running runs go back to QUEUED at the end of the grace time.
  virtual void Drain(std::chrono::milliseconds grace) = 0;
};

// How long the dispatcher waits for workers, and how often it forgives.
struct Patience {
  std::chrono::milliseconds hello{120000};     // from a worker's start to its hello
  std::chrono::milliseconds heartbeat{30000};  // between two signs of life; then the watchdog kills it
  std::chrono::milliseconds cancel{120000};    // until a worker lets a cancelled run go; then it is killed
  std::chrono::milliseconds first_restart{
      200};  // before a dead worker starts again; doubles if it never came up
  std::chrono::milliseconds longest_restart{30000};
  // Without any sign but heartbeats, until the watchdog kills a worker that computes: between two windows (at
  // least 20 times as long as a window takes), before a run's first window and after its last, and while a
  // model is loaded.
  std::chrono::milliseconds window_stall{60000};
  std::chrono::milliseconds stage_stall{120000};
  std::chrono::milliseconds load_stall{300000};
  // Before a run is prepared again that could not be for want of helpers, memory or descriptors; doubles.
  std::chrono::milliseconds first_preparation{1000};
  std::chrono::milliseconds longest_preparation{30000};
  std::uint32_t max_preparations = 10;  // in a row before such a run has FAILED
  // In which a study may have so many generations as the configuration says.
  std::chrono::milliseconds generation_window{3600000};
  std::uint32_t max_strikes = 3;  // deaths of its worker while alone before a run is quarantined
  // Losses of a device (its worker's exit code 5) within the window before it is not used any more, until the
  // server is started again. Those under one run, or while one model is loaded, count once: what loses its
  // device again and again is stopped long before.
  std::uint32_t max_device_losses = 3;
  std::chrono::milliseconds device_loss_window{600000};
  // Losses while a run was alone before it is quarantined; fewer than of a device, so that no run takes one.
  std::uint32_t max_run_losses = 2;
  // Tries of a run, and of a model's loading, that end for want of the device's memory, before that is final;
  // and the pause before the second one, which doubles.
  std::uint32_t max_memory_tries = 3;
  std::chrono::milliseconds first_memory_retry{1000};
  // A model's known answer is carried out again on a device when the last time was so long ago, and the
  // device has had nothing to do for so long.
  std::chrono::milliseconds known_answer_every{3600000};
  std::chrono::milliseconds known_answer_idle{10000};
};

struct DispatcherOptions {
  config::v1::ServerConfig config;  // defaults filled in
  std::string helper_program;
  // Started once per device with --device NAME --lanes N --host-bytes N, and for GPUs --threads N --lock-dir
  // FOLDER.
  std::string worker_program;
  std::string
      lock_folder;    // of the host's device locks, shared by all fronts; empty: in the temporary folder
  std::string build;  // version and commit, for the provenance; empty: the project's version
  std::uint64_t machine_bytes = 0;  // memory that the server may use; 0: base::MemoryLimitBytes()
  Observer* observer = nullptr;     // outlives the dispatcher; null: nobody
  Patience patience;
};

// Opens store and spool, scans models (a version without an activation gets ACTIVE by "configuration";
// DEMONSTRATION models run only by name), starts helpers and workers, resumes open runs, removes uploads that
// nobody can resume. Returns before models are warm. Errors: those of the store, the spool and the
// repository; PROGRAM_MISSING. Uploads must be gone before the dispatcher; subscriptions may outlive it.
absl::StatusOr<std::unique_ptr<Dispatcher>> StartDispatcher(DispatcherOptions options);

}  // namespace tomoserve::dispatch
