// Runs from QUEUED to their final state: which input, when decoded, on which device, what after a death.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dispatch/catalogue.h"
#include "dispatch/devices.h"
#include "dispatch/planning.h"
#include "dispatch/preparation.h"
#include "dispatch/results.h"
#include "dispatch/study_input.h"
#include "dispatch/subscriptions.h"
#include "dispatch/task_queue.h"
#include "tomoserve/dispatch/observer.h"
#include "tomoserve/store/job_store.h"

namespace tomoserve::dispatch {

// Confined to the coordinator, but for Progress. A device has a run or two, more where they have few windows,
// and more urgent ones beside them; while these are computed the next ones are decoded, as host memory
// allows. Most urgent first: priority, deadline, age.
//
// Steps that block (reading a study, decoding, packing a result) are tasks of the pool; their outcome comes
// back to the coordinator. A step in progress is never torn down: it is asked to stop and its outcome is
// thrown away.
class Scheduler final : public DeviceEvents {
 public:
  struct Services {
    store::JobStore& store;
    PreparationServices preparation;
    const Catalogue& catalogue;
    TaskQueue& coordinator;
    TaskQueue& pool;
    Subscriptions& subscriptions;
    Observer& observer;
    std::string build;
    Patience patience;
    store::GenerationLimit generations;
    double max_study_age_days = 7;  // of studies whose runs nobody has asked for in so many words
  };

  Scheduler(Services services, Devices& devices);

  // Takes up the open runs of the store after a start; RUNNING ones are queued again.
  absl::Status Resume();
  // A study got instances, runs or another state.
  void StudyChanged(const std::string& study_uid);
  // The store says that nobody wants these runs any more.
  void Cancelled(const std::vector<std::string>& run_ids);

  // Unloads models that the catalogue has no more, once no open run wants them.
  void UnloadGone();

  // Starts nothing any more; what is on a device or being committed goes on.
  void StopStarting();
  bool IsBusy() const;
  // Stops what goes on and puts it back to QUEUED.
  void StopRuns();

  // What runs and devices do now; the rest of it is left empty.
  Activity Observe() const;

  // Share of the windows that are done. Thread-safe.
  double Progress(const std::string& run_id) const;

  void OnDeviceChanged() override;
  void OnProgress(const ipc::v1::RunProgress& progress) override;
  void OnRunDone(std::size_t worker, std::uint64_t life, const ipc::v1::RunDone& done) override;
  void OnRunFailed(const ipc::v1::RunFailed& failed) override;
  void OnRunLost(const std::string& run_id, const WorkerDeath& death, bool alone) override;
  void OnWorkerDeath(const std::string& device, const WorkerDeath& death) override;

 private:
  // A store or a file system that fails now may work again soon.
  static constexpr std::chrono::seconds kRetry{2};

  enum class Phase {
    kWaiting,    // for the study's completion, or for its plan
    kReady,      // its input is known
    kPreparing,  // being decoded
    kPrepared,   // waits for a device
    kOnDevice,
    kFinishing,  // its result is being packed or committed
  };

  struct Entry {
    store::StoredRun stored;
    const models::Model* model = nullptr;
    Phase phase = Phase::kWaiting;
    bool marked =
        false;  // RUNNING in the store: late instances make a new generation, this one keeps its input
    bool held = false;  // the study had its generations for now; its phase is kWaiting
    std::int64_t held_until_us = 0;
    bool dropped = false;  // cancelled: the outcome of the step in progress is thrown away
    bool late = false;     // its deadline has passed, and its recipe has no use for it any more
    std::int64_t deadline_watched_us = 0;  // the deadline that a timer runs for; 0: none
    bool needs_room = false;               // host memory did not suffice for it once
    bool blocked = false;  // not to be prepared until something changes or a moment has passed
    bool resting = false;  // not to be prepared until its back-off is over; others may be
    std::uint32_t failed_preparations = 0;  // in a row, of a kind that may pass
    std::shared_ptr<const RunInput> input;
    std::shared_ptr<PreparedRun> prepared;
    std::shared_ptr<std::atomic<bool>> stop;
    ipc::v1::Hello worker;  // of the device that it is or was on
    bool on_cpu = false;
    std::optional<Prediction> needs;    // once it has an input, where it can be predicted
    std::uint64_t predicted_bytes = 0;  // on its device, without weights
    std::size_t device = 0;             // that it is or was on
    bool lost_device = false;           // while it was on one
    std::uint32_t memory_failures = 0;  // it is to be alone on its device from then on
    std::uint32_t windows_total = 0;    // as its progress says; 0: no progress yet
    double ready_ms = 0;
    double queue_ms = 0;
  };

  struct StudyEntry {
    bool planning = false;
    bool again = false;      // it changed while it was being planned
    std::uint64_t plan = 0;  // number of the newest plan
    std::set<std::string> runs;
  };

  // Outcomes cross threads as one shared object: tasks are copied, and these are not.
  using Prepared = absl::StatusOr<std::unique_ptr<PreparedRun>>;
  using Plan = std::map<std::string, std::shared_ptr<const RunInput>>;  // by run id

  // A run that is final by now is left out.
  void AddRun(const store::StoredRun& stored);
  void StartPlan(const std::string& study_uid);
  // `number`: which plan it is; one of a study entry that has ended meanwhile means nothing for a new one.
  void HandlePlan(const std::string& study_uid, std::uint64_t number, const absl::StatusOr<Plan>& plan,
                  bool complete);
  static bool StartsEarly(const Entry& entry, const RunInput& input);
  void GiveInput(Entry& entry, std::shared_ptr<const RunInput> input);
  // The study has had enough generations of the run for now: asks again later, and says so to the operator.
  void Hold(Entry& entry, std::int64_t until_us);
  void LiftHold(Entry& entry);
  void SetHeldNotice(const Entry& entry, bool held);
  // Another generation of the same model works on the same input: its result will be taken over.
  bool IsBeingComputed(const Entry& entry, const std::string& input_digest) const;

  // Starts what can start now.
  void Pump();
  bool IsInRepository(const std::string& model_digest) const;
  // Runs that no device takes are not left waiting: for their model, or for what they need.
  void FailRefused();
  // Why the run fits no device that has its model, or may have it; nothing while it may fit one.
  std::optional<v1::Reason> TooLarge(const Entry& entry) const;
  // What open runs wait for.
  std::vector<ModelWant> Wants() const;
  // Whether its model is warm on a device, but for `except`, that it fits with nothing else there.
  bool FitsWarmDevice(const Entry& entry, std::optional<std::size_t> except = {}) const;
  // A cascade waits for its region; at that run's end its study is planned again.
  bool WaitsForRegion(const Entry& entry) const;
  // Gives prepared runs to devices, most urgent first. Devices that have nothing to do while prepared runs
  // wait for faster ones: a run from further back may end first there.
  std::vector<std::size_t> FillDevices();
  // What waits for a device that it is not on yet.
  struct Waiting {
    std::size_t runs = 0;
    double seconds = 0;  // that they will take there
  };
  // Starts the run on the device where it would end first, or lets it wait for that one.
  void Place(Entry& entry, std::vector<Waiting>& waiting);
  // `seconds`: predicted; 0: not known.
  void StartOn(std::size_t worker, Entry& entry, double seconds);
  RunDemand DemandOf(const Entry& entry, std::size_t worker) const;
  // Whether the device has its model, and whether the run may start there now.
  bool MayRunOn(std::size_t worker, const Entry& entry) const;
  bool HasRoom(std::size_t worker, const Entry& entry) const;
  // Windows that the devices that have the run's model are short of.
  std::uint64_t WindowsMissing(const Entry& entry) const;
  // `unwanted`: see FillDevices.
  void StartPreparations(const std::vector<std::size_t>& unwanted);
  bool IsMoreUrgent(const Entry& a, const Entry& b) const;
  // Takes over what a study's submissions say of the run now; a device that has it is told.
  void SetUrgency(Entry& entry, const store::StoredRun& stored);
  // A run whose recipe says WHEN_LATE_STOP ends at its deadline: a timer runs for it.
  void WatchDeadline(Entry& entry);
  void HandleDeadline(const std::string& run_id, std::int64_t deadline_us);
  // Whether the step of a late run that came to its end is still of no use: UpdateStudy may have moved the
  // deadline since. Such a run is not late any more.
  static bool IsLate(Entry& entry);
  void FailLate(const std::string& run_id);
  Entry* MostUrgent(Phase phase, const std::function<bool(const Entry&)>& fits);
  void Prepare(Entry& entry);
  void HandlePrepared(const std::string& run_id, Prepared& prepared);
  void MakeRoomFor(const Entry& entry);
  // Its input is not what it was: back to QUEUED, and planned anew.
  void PlanAgain(Entry& entry);
  // Prepares it again after a while; FAILED with this reason once that has been tried often enough.
  void Rest(const std::string& run_id, const absl::Status& status);
  void RestFor(Entry& entry, std::chrono::milliseconds delay);
  // The worker gave it back for want of the device's memory: tried again alone, and FAILED in the end.
  void HandleShortage(Entry& entry);
  // The worker has forgotten the model meanwhile: the run waits for another device that has it.
  void GoElsewhere(Entry& entry);
  // The worker let it go, and now it is wanted again.
  void RunAgain(Entry& entry);
  void HandleFinished(const std::string& run_id, std::size_t worker, std::uint64_t life,
                      const std::shared_ptr<absl::StatusOr<RunResult>>& result);

  void Commit(const std::string& run_id, const std::shared_ptr<const RunResult>& result);
  void Fail(const std::string& run_id, const v1::Reason& reason);
  // A cascade whose region is not there.
  void AnswerWithoutRegion(Entry& entry, const v1::Reason& reason);
  // The run is final in the store.
  void End(const std::string& run_id);
  // Gives its memory back and lets it be prepared again.
  void Release(Entry& entry);
  void Block(Entry& entry);
  void Unblock();
  Entry* Find(const std::string& run_id);
  void Notify(const Entry& entry);
  // Calls `task` after a while if the run is still known then: for a store that does not write now.
  void Retry(const std::string& run_id, const char* what, const absl::Status& status,
             std::function<void()> task);

  Services services_;
  Devices& devices_;
  bool starting_ = true;
  bool stopped_ = false;
  std::map<std::string, Entry> entries_;  // open runs, by run id
  std::map<std::string, StudyEntry> studies_;
  std::uint64_t plans_ = 0;

  mutable std::mutex progress_mutex_;
  std::map<std::string, double> progress_;
};

}  // namespace tomoserve::dispatch
