// What the dispatcher tells whoever counts and measures it: events as they happen (Observer), and on demand
// what is going on now (Activity). No identifiers of studies, runs or patients are in either.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::dispatch {

// A submission that was acknowledged just now.
struct SubmissionReport {
  const v1::SubmissionReceipt& receipt;
  double upload_ms = 0;       // from the stream's start to its last byte
  double header_ms = 0;       // that helpers read headers, beside the upload
  double acknowledge_ms = 0;  // sync and commit, after the last header
};

// A run whose result was committed just now.
struct RunReport {
  const v1::Run& run;  // as committed, with its timings
  std::uint32_t windows = 0;
  double commit_ms = 0;
  double total_ms = 0;  // from the input's completion to the end of the commit
};

// Every method may be called by any thread, most by the coordinator while everything else waits: it returns
// at once and never blocks, throws or calls back. `model` is a name of the repository, or was one when the
// run was made; `reason` is a reason code and may come from a helper or worker.
class Observer {
 public:
  virtual ~Observer() = default;
  // Bytes of instances came in.
  virtual void OnUploadBytes(std::uint64_t /*bytes*/) {}
  virtual void OnInstanceRefused(std::string_view /*reason*/) {}
  virtual void OnSubmissionAcknowledged(const SubmissionReport& /*report*/) {}
  // `reason` is UPLOAD_DROPPED where the submitter went away.
  virtual void OnSubmissionRefused(std::string_view /*reason*/) {}
  // Its preparation begins for the first time, `queue_ms` after its input was complete.
  virtual void OnRunDequeued(v1::Priority /*priority*/, double /*queue_ms*/) {}
  virtual void OnRunDone(const RunReport& /*report*/) {}
  virtual void OnRunFailed(std::string_view /*model*/, std::string_view /*reason*/) {}
  virtual void OnRunCancelled(std::string_view /*model*/) {}
  virtual void OnRunQuarantined(std::string_view /*model*/) {}
  // Its worker died. `blamed`: the run may be the culprit.
  virtual void OnRunRequeued(std::string_view /*model*/, bool /*blamed*/) {}
  // Its study has had so many generations lately that this one waits (StoredStudy notice GENERATIONS_HELD).
  virtual void OnGenerationHeld(std::string_view /*model*/) {}
  // It got the result of an earlier run on the same input.
  virtual void OnRunTakenOver(std::string_view /*model*/) {}
  // A worker ended and is started again. `cause` is one of WorkerDeathCauses().
  virtual void OnWorkerDeath(const std::string& /*device*/, std::string_view /*cause*/) {}
};

// Everything that OnWorkerDeath may call a cause.
std::vector<std::string> WorkerDeathCauses();

struct PriorityActivity {
  std::uint64_t waiting = 0;    // runs whose input is complete and that no device has yet
  std::uint64_t in_flight = 0;  // on a device, or their result is being packed or committed
  double oldest_wait_ms = 0;    // of the waiting ones
};

struct DeviceActivity {
  std::string device;       // "cpu", "cuda:0"
  std::string device_kind;  // from the worker's Hello; empty until it came
  bool ready = false;
  std::size_t runs = 0;  // that it has
  bool is_gpu = false;
  std::uint64_t memory_bytes = 0;     // that runs may use there, as the worker says
  std::uint64_t predicted_bytes = 0;  // its warm models' weights and what the run on it was predicted to need
  std::uint64_t gpu_used_bytes = 0;   // that the worker holds of a GPU, as it says
  pid_t worker_pid = 0;               // 0: none lives now
  std::uint64_t batch_windows = 0;    // computed there since the start
  std::uint64_t batch_slots = 0;      // places for windows in their batches
  double busy_seconds = 0;            // with them, of all lanes together
};

struct ModelActivity {
  std::string model;
  std::string version;
  std::string device;
  std::size_t worker = 0;  // its place among the devices
  bool ready = false;      // warm there, or loaded when a run wants it
  bool warm = false;
};

// What goes on now.
struct Activity {
  std::map<v1::Priority, PriorityActivity> priorities;  // ROUTINE, URGENT and STAT, always
  std::uint64_t incomplete = 0;                         // runs that wait for the rest of their study
  std::vector<DeviceActivity> devices;
  std::vector<ModelActivity> models;
  std::uint64_t open_uploads = 0;
  std::uint64_t host_bytes = 0;        // arenas and label maps hold now
  std::uint64_t host_limit_bytes = 0;  // that they may hold
  std::uint64_t helper_leases = 0;     // since the start
  std::uint64_t helper_deaths = 0;     // since the start
  std::uint64_t spool_bytes = 0;
  std::uint64_t spool_free_bytes = 0;  // on its file system
};

}  // namespace tomoserve::dispatch
