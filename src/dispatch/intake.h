// Studies from their first acknowledgement to their completion: states, settle timers, late instances.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "dispatch/submission.h"
#include "dispatch/task_queue.h"
#include "tomoserve/store/job_store.h"

namespace tomoserve::dispatch {

// Confined to the coordinator.
class Intake {
 public:
  // `changed` is called after a study got instances, runs or another state. `idle` says how long a study may
  // wait for more without a notice.
  Intake(store::JobStore& store, TaskQueue& coordinator, std::chrono::milliseconds idle,
         std::function<void(const std::string& study_uid)> changed);

  // The durable commit. Nothing comes back if the study's instances are not those that the proposal was
  // composed for.
  absl::StatusOr<std::optional<v1::SubmissionReceipt>> Commit(const Proposal& proposal);
  // Everything is there. Errors: UNKNOWN_STUDY.
  absl::Status Close(const std::string& study_uid);
  // Adds what is not there yet; a study that is not there has no notices.
  void AddStudyNotices(const std::string& study_uid, const std::vector<v1::Reason>& notices);
  // Takes up the timers of open studies after a start.
  absl::Status Resume();

 private:
  void StartTimer(const store::StoredStudy& study);
  void Settled(const std::string& study_uid);
  void Idle(const std::string& study_uid);
  // More came, or nothing is waited for any more.
  void EndIdle(const store::StoredStudy& study);

  store::JobStore& store_;
  TaskQueue& coordinator_;
  const std::chrono::milliseconds idle_;
  const std::function<void(const std::string&)> changed_;
  // The number of each open study's newest timer: an older one that fires means nothing.
  std::map<std::string, std::uint64_t> timers_;
  std::uint64_t next_timer_ = 0;
};

}  // namespace tomoserve::dispatch
