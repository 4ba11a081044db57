// On which device a prepared run goes, and when.
#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "dispatch/instance_rules.h"
#include "dispatch/placement.h"
#include "dispatch/scheduler.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

// Of a model, or of a known answer; how long it takes is not known before.
constexpr double kLoadSeconds = 10;

}  // namespace

std::vector<ModelWant> Scheduler::Wants() const {
  // Of each model, for runs that fit a device on which it is warm, or may, and for those that do not.
  std::map<std::pair<std::string, bool>, const Entry*> first;
  for (const auto& [run_id, entry] : entries_) {
    const bool waits =
        entry.phase == Phase::kReady || entry.phase == Phase::kPreparing || entry.phase == Phase::kPrepared;
    if (!waits || entry.resting || WaitsForRegion(entry)) continue;
    const std::string& digest = entry.stored.model_digest;
    const bool does_not_fit = devices_.IsWarmSomewhere(digest) && !FitsWarmDevice(entry);
    const Entry*& other = first[{digest, does_not_fit}];
    if (other == nullptr || IsMoreUrgent(entry, *other)) other = &entry;
  }
  std::vector<std::pair<const Entry*, bool>> entries;
  for (const auto& [key, entry] : first) entries.emplace_back(entry, key.second);
  std::sort(entries.begin(), entries.end(),
            [this](const auto& a, const auto& b) { return IsMoreUrgent(*a.first, *b.first); });
  std::vector<ModelWant> wants;
  for (const auto& [entry, does_not_fit] : entries) {
    wants.push_back({.model_digest = entry->stored.model_digest,
                     .urgency = static_cast<std::uint32_t>(entry->stored.priority),
                     .does_not_fit = does_not_fit});
  }
  return wants;
}

bool Scheduler::FitsWarmDevice(const Entry& entry, std::optional<std::size_t> except) const {
  const std::string& digest = entry.stored.model_digest;
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    if (worker == except || devices_.ModelOn(worker, digest).readiness != v1::MODEL_READINESS_WARM) continue;
    if (devices_.CheckFitsEver(worker, digest, DemandOf(entry, worker)).ok()) return true;
  }
  return false;
}

bool Scheduler::WaitsForRegion(const Entry& entry) const {
  const auto& region = entry.input->region;
  return region && entries_.contains(region->run_id);
}

std::vector<std::size_t> Scheduler::FillDevices() {
  std::vector<const Entry*> prepared;
  for (const auto& [run_id, entry] : entries_) {
    if (entry.phase == Phase::kPrepared) prepared.push_back(&entry);
  }
  std::sort(prepared.begin(), prepared.end(),
            [this](const Entry* a, const Entry* b) { return IsMoreUrgent(*a, *b); });
  std::vector<std::string> run_ids;
  for (const Entry* entry : prepared) run_ids.push_back(entry->stored.run.run_id());
  std::vector<Waiting> waiting(devices_.count());
  for (const std::string& run_id : run_ids) {
    // One that cannot be started ends, and others may with it.
    Entry* entry = Find(run_id);
    if (entry != nullptr && entry->phase == Phase::kPrepared) Place(*entry, waiting);
  }
  std::vector<std::size_t> unwanted;
  const bool any_waits =
      std::any_of(waiting.begin(), waiting.end(), [](const Waiting& there) { return there.runs > 0; });
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    if (any_waits && waiting[worker].runs == 0 && devices_.RunsOn(worker) == 0) unwanted.push_back(worker);
  }
  return unwanted;
}

void Scheduler::Place(Entry& entry, std::vector<Waiting>& waiting) {
  std::vector<Outlook> outlooks;
  for (std::size_t worker = 0; worker < devices_.count(); ++worker) {
    if (!MayRunOn(worker, entry) ||
        !devices_.CheckFitsEver(worker, entry.stored.model_digest, DemandOf(entry, worker)).ok())
      continue;
    Outlook& outlook = outlooks.emplace_back();
    outlook.worker = worker;
    if (entry.needs) outlook.run_seconds = devices_.SecondsOn(worker, *entry.model, *entry.needs);
    outlook.runs = devices_.RunsOn(worker) + waiting[worker].runs;
    // A device is kept for the first run that waits for it: those that need less do not go on before it.
    outlook.has_room = waiting[worker].runs == 0 && HasRoom(worker, entry);
    // Without room it waits for less urgent runs, too.
    const std::uint32_t urgency = outlook.has_room ? static_cast<std::uint32_t>(entry.stored.priority) : 0;
    outlook.backlog_seconds = devices_.BacklogSeconds(worker, urgency) + waiting[worker].seconds;
    if (!outlook.has_room && devices_.IsLoading(worker)) outlook.backlog_seconds += kLoadSeconds;
  }
  const std::optional<std::size_t> worker = WorkerThatEndsFirst(outlooks);
  if (!worker) return;
  const auto outlook = std::find_if(outlooks.begin(), outlooks.end(),
                                    [&](const Outlook& other) { return other.worker == *worker; });
  const bool is_first = waiting[*worker].runs == 0;
  if (outlook->has_room ||
      (is_first && devices_.MakeRoomFor(*worker, entry.stored.model_digest, DemandOf(entry, *worker)))) {
    return StartOn(*worker, entry, outlook->run_seconds);
  }
  waiting[*worker].runs += 1;
  waiting[*worker].seconds += outlook->run_seconds;
}

bool Scheduler::MayRunOn(std::size_t worker, const Entry& entry) const {
  const std::string& digest = entry.stored.model_digest;
  if (devices_.ModelOn(worker, digest).readiness != v1::MODEL_READINESS_WARM) return false;
  // Rather on another device than on the one that it saw the end of.
  return !(entry.lost_device && entry.device == worker && FitsWarmDevice(entry, worker));
}

bool Scheduler::HasRoom(std::size_t worker, const Entry& entry) const {
  const RunDemand demand = DemandOf(entry, worker);
  // One that is to be alone has no model loaded beside it either.
  return devices_.HasRoom(worker, demand) && !(demand.alone && devices_.IsLoading(worker));
}

void Scheduler::StartOn(std::size_t worker, Entry& entry, double seconds) {
  const std::string run_id = entry.stored.run.run_id();
  const RunDemand demand = DemandOf(entry, worker);
  // As they are now: it may have been prepared under other ones.
  entry.prepared->start.set_urgency(demand.urgency);
  entry.prepared->start.set_deadline_unix_us(entry.stored.deadline_us);
  const RunEstimate estimate{.work = entry.needs ? WorkOf(*entry.needs) : RunWork(), .seconds = seconds};
  const absl::Status status =
      devices_.StartRun(worker, entry.prepared->start, demand, estimate, entry.prepared->fds());
  if (!status.ok()) {
    if (base::ReasonOf(status) == "PEER_GONE") return;  // its death is on the way
    return Fail(run_id, ReasonFrom(status));
  }
  entry.phase = Phase::kOnDevice;
  entry.worker = devices_.HelloOf(worker);
  entry.on_cpu = devices_.IsCpu(worker);
  entry.device = worker;
  entry.windows_total = 0;
  entry.predicted_bytes = demand.bytes;
  base::Log(base::LogLevel::kInfo, "run_started",
            {{"run_id", run_id},
             {"model", entry.model->name},
             {"study", base::HashedUid(entry.stored.study_uid)},
             {"decode_ms", entry.prepared->decode_ms}});
}

}  // namespace tomoserve::dispatch
