// The workers, one per device: which are alive, which models are warm where, which runs each one has.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dispatch/bucket_proofs.h"
#include "dispatch/catalogue.h"
#include "dispatch/device_ledger.h"
#include "dispatch/planning.h"
#include "dispatch/task_queue.h"
#include "dispatch/worker_handle.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/ipc/v1/worker.pb.h"
#include "tomoserve/models/window_bytes.h"
#include "tomoserve/v1/model_service.pb.h"

namespace tomoserve::dispatch {

// What devices tell the scheduler, on the coordinator.
class DeviceEvents {
 public:
  virtual ~DeviceEvents() = default;
  // A worker said hello, a model is warm or refused, a worker is free.
  virtual void OnDeviceChanged() = 0;
  virtual void OnProgress(const ipc::v1::RunProgress& progress) = 0;
  // The worker has given the run back. `worker`, `life`: whose answer it is.
  virtual void OnRunDone(std::size_t worker, std::uint64_t life, const ipc::v1::RunDone& done) = 0;
  virtual void OnRunFailed(const ipc::v1::RunFailed& failed) = 0;
  // The worker died with this run in flight. `alone`: nothing else was going on that could have killed it.
  virtual void OnRunLost(const std::string& run_id, const WorkerDeath& death, bool alone) = 0;
  // A worker died, with a run or without.
  virtual void OnWorkerDeath(const std::string& device, const WorkerDeath& death) = 0;
};

// A worker may say what it likes: more is no number of bytes that a device holds.
inline constexpr std::uint64_t kMostModelBytes = std::uint64_t{1} << 50;

// A model on one device.
struct ModelOnDevice {
  v1::ModelReadiness readiness = v1::MODEL_READINESS_COLD;
  v1::Reason reason;
  std::uint64_t weight_bytes = 0;
  std::uint64_t forward_bytes = 0;     // that a window's forward pass takes beside them; 0: not known
  double ms_per_window = 0;            // of one forward pass on one lane
  double window_ms = 0;                // of a whole window: with every mirrored pass
  std::vector<std::uint32_t> buckets;  // sizes of batches that are proved; empty: not known
  double checked_ms = 0;               // when its known answer was carried out last
  double load_ms = 0;                  // that it took to load it
  double loaded_ms = 0;                // when that was
};

// A model that runs wait for.
struct ModelWant {
  std::string model_digest;
  std::uint32_t urgency = 0;  // of the most urgent of them
  bool does_not_fit = false;  // a run that fits no device on which the model is warm
};

// What a run is expected to take on a device.
struct RunEstimate {
  RunWork work;
  double seconds = 0;  // 0: not known
};

// Confined to the coordinator, but for the snapshots, which are thread-safe. Models are loaded one after the
// other, demonstrations last; a model that kills its worker or loses its device twice while it loads is
// refused there (LOAD_CRASHED), one that memory does not suffice for is tried again; the second try has the
// worker for itself. A device that has been idle carries the known answers of its models out again, one
// answer on one device at a time, with runs beside it; a model whose answer differs is refused there
// (KNOWN_ANSWER_DIFFERS). A device that is lost several
// times within a window, under different runs and models, is not used any more (DEVICE_LOST).
class Devices {
 public:
  struct Options {
    std::vector<std::string> devices;
    std::string program;
    std::uint32_t cpu_lanes = 1;
    std::vector<std::uint32_t> batch_buckets;  // empty: the worker's default
    std::string lock_folder;
    std::uint32_t min_devices = 0;       // fewest that must be able to serve; 0: all, and at least one
    std::chrono::milliseconds grace{0};  // after which fewer are too few
    std::string proofs_file;             // see BucketProofs
    std::string build;                   // of the server
    std::set<std::string> pinned;        // names of models that never make room for others
    // What the machine's memory leaves beside arenas. Each worker has the same share of it: for its runs on a
    // CPU, for what they need beside a GPU.
    std::uint64_t host_bytes = 0;
    Patience patience;
  };

  Devices(Options options, const Catalogue& catalogue, TaskQueue& coordinator);
  ~Devices();

  // Starts the workers. `events` outlives Stop.
  void Start(DeviceEvents& events);
  // Ends all workers and joins their threads. Not on the coordinator. Idempotent.
  void Stop();

  std::size_t count() const { return workers_.size(); }
  // Whether it may have this run now: alive, not loading a model that is to be alone, and the ledger admits
  // it, beside others and alone.
  bool HasRoom(std::size_t worker, const RunDemand& demand) const;
  // Whether a run of the model fits beside it and the pinned models on a device that lives, when nothing else
  // is there. Errors: RUN_TOO_LARGE.
  absl::Status CheckFitsEver(std::size_t worker, const std::string& model_digest,
                             const RunDemand& demand) const;
  // Unloads models that no run uses, so that a run of this one has room; whether it has. On a device that has
  // nothing to do.
  bool MakeRoomFor(std::size_t worker, const std::string& model_digest, const RunDemand& demand);
  // Loads the models that are ON_DEMAND where others can make room for them, and that no run could use
  // elsewhere: see residency.cpp. `wants`: all that open runs wait for, the most urgent first; they count
  // until the next call.
  void LoadWanted(std::vector<ModelWant> wants);
  // Windows that a device that lives is short of: see DeviceLedger.
  std::uint64_t WindowsMissing(std::size_t worker, const RunDemand& demand) const;
  // Whether the device may have the model yet that it does not have: it is starting, or the model waits.
  bool MayGet(std::size_t worker, const std::string& model_digest) const;
  // Whether it loads a model, or carries a known answer out again: nobody is alone there.
  bool IsLoading(std::size_t worker) const;
  // Whether the model's known answer is being carried out there again, or was another one: the worker may
  // have forgotten a model that a run was sent to.
  bool IsDoubted(std::size_t worker, const std::string& model_digest) const;
  bool IsCpu(std::size_t worker) const;
  // Valid until something is loaded or unloaded.
  const ModelOnDevice& ModelOn(std::size_t worker, const std::string& model_digest) const;
  // How windows of the model are computed there. A forward pass that is not known counts as the largest one
  // that is.
  models::WindowPasses PassesOn(std::size_t worker, const std::string& model_digest) const;
  // `except`: a worker that does not count.
  bool IsWarmSomewhere(const std::string& model_digest, std::optional<std::size_t> except = {}) const;
  // Why no device will ever have this model; nothing while one has it or may get it. A device that is lost
  // for good will not get it, and says nothing about it.
  std::optional<v1::Reason> RefusedEverywhere(const std::string& model_digest) const;
  const ipc::v1::Hello& HelloOf(std::size_t worker) const { return *workers_[worker].hello; }
  std::uint64_t LifeOf(std::size_t worker) const { return workers_[worker].life; }

  // What the worker has now: how many runs with how many predicted bytes, and the bytes of the models that
  // are warm there, with those of the hungriest one's forward pass.
  std::size_t RunsOn(std::size_t worker) const { return workers_[worker].runs.size(); }
  std::uint64_t RunBytesOn(std::size_t worker) const { return workers_[worker].ledger.run_bytes(); }
  std::uint64_t ModelBytesOn(std::size_t worker) const { return workers_[worker].ledger.resident(); }
  // Memory that models and runs may use there; 0 until the worker has said hello.
  std::uint64_t MemoryBytesOf(std::size_t worker) const { return workers_[worker].ledger.budget(); }
  // Memory that the worker holds of its GPU, as it says; 0 of a CPU.
  std::uint64_t GpuBytesUsedOn(std::size_t worker) const;
  // What its workers computed since the start.
  ComputedBatches ComputedOn(std::size_t worker) const;
  // 0: no process lives.
  pid_t ProcessOf(std::size_t worker) const;

  // Seconds that the run would take there if nothing else went on; 0: not known.
  double SecondsOn(std::size_t worker, const models::Model& model, const Prediction& prediction) const;
  // Seconds of what is left there of the runs that are as urgent.
  double BacklogSeconds(std::size_t worker, std::uint32_t urgency) const;

  // The run is the worker's until OnRunDone, OnRunFailed or OnRunLost. The watchdog waits for larger windows
  // longer; what the run takes is learnt. Errors: PEER_GONE (its death follows), RECORD_TOO_LARGE.
  absl::Status StartRun(std::size_t worker, const ipc::v1::StartRun& start, const RunDemand& demand,
                        const RunEstimate& estimate, const std::vector<int>& fds);
  // Tells the worker that has the run how urgent it is from now on. `deadline_us`: since 1970; 0: none.
  void UpdateRun(const std::string& run_id, std::uint32_t urgency, std::int64_t deadline_us);
  // Asks the worker to let the run go; one that does not in time is killed.
  void CancelRun(const std::string& run_id);
  // Kills a worker that lied, if it still lives. The runs that it has now are not to blame.
  void Kill(std::size_t worker, std::uint64_t life);

  // Loads what the catalogue has and the workers do not know; that they are ready stays true meanwhile.
  void LoadNew();
  // Models that the workers know.
  std::set<std::string> Known() const;
  // Forgets a model that no run wants.
  void Unload(const std::string& model_digest);

  // Thread-safe:
  std::vector<DeviceInfo> Infos() const;
  std::vector<v1::DeviceReadiness> ReadinessOf(const std::string& model_digest) const;
  // What a plan knows of the devices that have the model, or may have it.
  std::vector<PlanDevice> PlansOf(const std::string& model_digest) const;
  // As many workers as are needed said hello and know of every model whether it is warm or refused.
  bool ready() const;
  // Fewer devices than are needed are left beside those that are lost for good.
  bool TooManyLost() const;
  // kUnavailable DEVICE_UNAVAILABLE (value: the devices) once, for the whole grace time, fewer devices could
  // be used than are needed; the text says why for each.
  absl::Status CheckEnough() const;

 private:
  struct Loss {
    double at_ms = 0;
    // What may have been the culprit: the model that was being loaded, else each of the runs; empty: nothing.
    std::set<std::string> under;
  };

  struct RunOnDevice {
    RunDemand demand;
    std::string model_digest;
    RunWork work;
    double seconds = 0;  // predicted; 0: not known
    double left = 1;     // share of its windows
    double window_ms = 0;
    bool shared = false;       // something else went on there meanwhile
    std::uint64_t number = 0;  // in the order of their starts
    double moved_ms = 0;       // last sign of it
  };

  struct Worker {
    std::string device;
    std::unique_ptr<WorkerHandle> handle;
    std::uint64_t life = 0;
    std::optional<ipc::v1::Hello> hello;  // while alive
    std::map<std::string, ModelOnDevice> models;
    std::set<std::string> late;                           // of them: came with a reload
    std::map<std::string, int> load_deaths;               // while alone; 0: suspected only
    std::map<std::string, std::uint32_t> load_shortages;  // of memory, in this life
    std::map<std::string, double> used_ms;                // when a run of a model began or ended there last
    std::deque<const models::Model*> to_load;
    std::deque<const models::Model*> to_load_again;  // once nothing else goes on there
    const models::Model* loading = nullptr;
    std::string checking;                     // digest of the model whose known answer is carried out again
    DeviceLedger ledger;                      // of the process that lives
    double busy_ms = 0;                       // when it had something to do last, while it has nothing
    std::map<std::string, RunOnDevice> runs;  // by run id
    std::string first;                        // of several: whose windows go before those of the others
    double first_since_ms = 0;
    std::uint32_t restarts = 0;
    std::optional<v1::Reason> unusable;  // why it could not start; nothing from its hello on
    bool lost = false;                   // for good
    std::deque<Loss> losses;             // within the window
  };

  void HandleReply(std::size_t index, std::uint64_t life, const ipc::v1::WorkerReply& reply);
  void HandleHello(Worker& worker, std::uint64_t life, const ipc::v1::Hello& hello);
  void HandleModel(std::size_t index, const ipc::v1::ModelState& state);
  // Whether a load that failed for want of memory is tried again: later, when no run is in flight.
  bool WillLoadAgain(std::size_t index, const models::Model& model);
  // A model that did not fit, or that may be what killed its worker: no run goes on beside its next loading.
  static bool LoadsAlone(const Worker& worker, const models::Model& model);
  // Whether this loss of the device is one too many.
  bool IsLostForGood(Worker& worker, std::set<std::string> under) const;
  // Loads what waits for that, if nothing else goes on: a run's memory may be what it needs.
  void LoadAgain(Worker& worker);
  void HandleDeath(std::size_t index, const WorkerDeath& death);
  void HandleUnusable(Worker& worker, v1::Reason reason);
  void LoadNext(Worker& worker);
  // Bytes of the arrays of the model's known answer on this device; 0 where it has none.
  std::uint64_t CaseBytes(const Worker& worker, const models::Model& model) const;
  // What is known of a load before it: the network's files and the known answer. Its forward pass is not.
  std::uint64_t LoadBytes(const Worker& worker, const models::Model& model) const;
  // What warm models take there, all or those that `stay`: weights, and the forward pass of the hungriest
  // one, as windows follow each other.
  static std::uint64_t ResidentBytes(const Worker& worker,
                                     const std::function<bool(const std::string& digest)>& stay);
  // Takes down what its warm models take. To be called whenever one comes or goes.
  static void SettleModels(Worker& worker);
  // Of the model and the pinned ones.
  std::uint64_t LeastResidentBytes(const Worker& worker, const std::string& model_digest) const;
  bool IsPinned(const std::string& model_digest) const;
  // Place among what runs wait for; their number: nobody waits for it.
  std::size_t RankOf(const std::string& model_digest) const;
  // Whether the model may be unloaded there to make room for the one of that rank, once no run uses it.
  bool MayGo(const Worker& worker, const std::string& model_digest, std::size_t for_rank) const;
  static bool IsUsed(const Worker& worker, const std::string& model_digest);
  // Whether models can make room for the loading of another one: now, or once no run is there.
  bool CanMakeRoom(const Worker& worker, const models::Model& model, bool once_idle) const;
  // Unloads models, the least recently used first, until so many bytes are free or no other may go.
  void MakeRoom(Worker& worker, const std::string& model_digest, std::uint64_t bytes);
  void Evict(Worker& worker, const std::string& model_digest);
  // Has the scheduler ask for wanted models again in a moment.
  void LookAgain();
  // Whether the model has no room beside those that are there: nobody waits for it, or who does waits for
  // more urgent runs.
  bool WaitsForDemand(const Worker& worker, const models::Model& model) const;
  // Asks idle devices for the known answers that are due, now and then from here on.
  void CheckIdleAgain();
  // Has the answer given that has waited longest of those that are due on idle devices; one at a time. A
  // model that was loaded beside runs is due at once: its forward pass is measured then.
  void CheckIdle();
  // Whether the device has had nothing to do for a while.
  bool IsIdle(const Worker& worker) const;
  void HandleChecked(Worker& worker, const ipc::v1::ModelState& reply);
  absl::Status SendLoad(Worker& worker, const models::Model& model);
  // Tells the handle what the worker computes now.
  void Watch(Worker& worker);
  StallBounds BoundsOf(const Worker& worker) const;
  // The worker's own motion hides a run that stands still beside others: the one whose turn comes first has
  // to move.
  void CheckFirst(Worker& worker);
  void NoteProgress(Worker& worker, const ipc::v1::RunProgress& progress);
  // What the run took, where it had the device for itself.
  void Learn(const Worker& worker, const ipc::v1::RunDone& done);
  // Whether the reply is about a run of the worker; one that speaks of another run is killed.
  bool IsItsRun(Worker& worker, const std::string& run_id);
  // The worker has answered it.
  void Forget(Worker& worker, const std::string& run_id);
  void Publish();
  // Of the host's memory, for one worker.
  std::uint64_t HostShare() const;
  // How many must be able to serve.
  std::size_t Needed() const;

  const Options options_;
  const Catalogue& catalogue_;
  TaskQueue& coordinator_;
  BucketProofs proofs_;
  RunTimes times_;
  DeviceEvents* events_ = nullptr;
  std::vector<Worker> workers_;
  std::vector<ModelWant> wants_;
  bool looks_again_ = false;
  std::uint64_t runs_started_ = 0;

  struct View {
    std::vector<DeviceInfo> infos;
    std::map<std::string, std::vector<v1::DeviceReadiness>> models;
    std::map<std::string, std::vector<PlanDevice>> plans;
    bool ready = false;
    std::optional<double> few_since_ms;  // since when fewer devices than needed can be used
  };
  mutable std::mutex view_mutex_;
  View view_;
};

}  // namespace tomoserve::dispatch
