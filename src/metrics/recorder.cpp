#include "metrics/recorder.h"

#include <algorithm>
#include <array>
#include <utility>

namespace tomoserve::metrics {
namespace {

using prometheus::Histogram;
using prometheus::Labels;

// Seconds. From a header batch to a night's backlog, three steps a decade.
const Histogram::BucketBoundaries& Seconds() {
  static const auto& boundaries =
      *new Histogram::BucketBoundaries{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,  1,    2.5,
                                       5,     10,     25,    50,   100,   250,  500, 1000, 2500, 5000, 10000};
  return boundaries;
}

// Stages of a run (proto/tomoserve/v1/finding.proto, StageTiming); the worker names them.
constexpr std::array<std::string_view, 7> kRunStages{"decode", "prepare", "forward", "blend",
                                                     "labels", "measure", "pack"};

}  // namespace

Recorder::Recorder()
    : bytes_(Count("tomoserve_received_bytes_total", "Bytes of DICOM instances that came in, kept or not.")
                 .Add({})),
      acknowledged_(Count("tomoserve_submissions_acknowledged_total",
                          "Submissions that were stored durably and acknowledged.")
                        .Add({})),
      accepted_(Count("tomoserve_instances_accepted_total",
                      "Instances of acknowledged submissions that were kept, duplicates included.")
                    .Add({})),
      duplicate_(
          Count("tomoserve_instances_duplicate_total", "Accepted instances that the study had already.")
              .Add({})),
      refused_(Count("tomoserve_submissions_refused_total",
                     "Submissions that ended without an acknowledgement, by reason code; UPLOAD_DROPPED: the "
                     "submitter went away.")),
      refused_instances_(
          Count("tomoserve_instances_refused_total", "Instances that were not kept, by reason code.")),
      stages_(Measure("tomoserve_stage_duration_seconds",
                      "Time of one stage of a submission (upload, header, acknowledge; no model) or of a run "
                      "(decode to commit).")),
      queue_(Measure("tomoserve_queue_duration_seconds",
                     "Time from a run's complete input to the start of its preparation, by priority.")),
      durations_(Measure("tomoserve_run_duration_seconds",
                         "Time from a run's complete input to its committed result.")),
      runs_(Count("tomoserve_runs_total",
                  "Runs that reached a final state; DONE ones by flag, its level, and the kind of device.")),
      failures_(Count("tomoserve_run_failures_total", "Runs that FAILED, by reason code.")),
      requeued_(Count("tomoserve_runs_requeued_total",
                      "Runs that went back to the queue because their worker died; blamed: the run may be "
                      "the culprit.")),
      held_(Count("tomoserve_generations_held_total",
                  "Generations that wait because their study had too many within an hour.")),
      reused_(
          Count("tomoserve_runs_reused_total", "Runs that took over an earlier result on the same input.")),
      windows_(Count("tomoserve_windows_total", "Windows that networks computed for committed runs.")),
      restarts_(
          Count("tomoserve_worker_restarts_total", "Workers that ended and were started again, by cause.")) {
  for (const v1::Priority priority : {v1::PRIORITY_ROUTINE, v1::PRIORITY_URGENT, v1::PRIORITY_STAT}) {
    queue_.Add({{"priority", PriorityLabel(priority)}}, Seconds());
  }
  for (const char* stage : {"upload", "header", "acknowledge"}) stages_.Add({{"stage", stage}}, Seconds());
}

Recorder::Counters& Recorder::Count(const char* name, const char* help) {
  heads_.push_back({.name = name, .help = help, .type = prometheus::MetricType::Counter, .metric = {}});
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry_);
}

Recorder::Histograms& Recorder::Measure(const char* name, const char* help) {
  heads_.push_back({.name = name, .help = help, .type = prometheus::MetricType::Histogram, .metric = {}});
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry_);
}

std::vector<prometheus::MetricFamily> Recorder::Collect() const {
  std::vector<prometheus::MetricFamily> families = registry_.Collect();
  for (const prometheus::MetricFamily& head : heads_) {
    const bool counted = std::any_of(families.begin(), families.end(),
                                     [&head](const auto& family) { return family.name == head.name; });
    if (!counted) families.push_back(head);
  }
  return families;
}

void Recorder::AddDevice(const std::string& device) {
  for (const std::string& cause : dispatch::WorkerDeathCauses()) AddRestarts(device, cause, 0);
}

void Recorder::OnUploadBytes(std::uint64_t bytes) { bytes_.Increment(static_cast<double>(bytes)); }

void Recorder::OnInstanceRefused(std::string_view reason) {
  refused_instances_.Add({{"reason", helper_reasons_.Code(reason)}}).Increment();
}

void Recorder::OnSubmissionAcknowledged(const dispatch::SubmissionReport& report) {
  acknowledged_.Increment();
  accepted_.Increment(report.receipt.instances_accepted());
  duplicate_.Increment(report.receipt.instances_duplicate());
  AddStage("upload", "", report.upload_ms);
  AddStage("header", "", report.header_ms);
  AddStage("acknowledge", "", report.acknowledge_ms);
}

void Recorder::OnSubmissionRefused(std::string_view reason) {
  refused_.Add({{"reason", submission_reasons_.Code(reason)}}).Increment();
}

void Recorder::OnRunDequeued(v1::Priority priority, double queue_ms) {
  queue_.Add({{"priority", PriorityLabel(priority)}}, Seconds()).Observe(queue_ms / 1000);
}

void Recorder::AddStage(const std::string& stage, const std::string& model, double ms) {
  Labels labels{{"stage", stage}};
  if (!model.empty()) labels.emplace("model", model);
  stages_.Add(labels, Seconds()).Observe(ms / 1000);
}

void Recorder::OnRunDone(const dispatch::RunReport& report) {
  const std::string model = models_.Text(report.run.model());
  Labels labels{{"state", "DONE"},
                {"model", model},
                {"flag", Without("FLAG_STATE_", v1::FlagState_Name(report.run.flag().state()))}};
  if (report.run.flag().level() != v1::FLAG_LEVEL_UNSPECIFIED) {
    labels.emplace("level", Without("FLAG_LEVEL_", v1::FlagLevel_Name(report.run.flag().level())));
  }
  // Where the input did not suit, no device was needed.
  const std::string& kind = report.run.provenance().device_kind();
  if (!kind.empty()) {
    labels.emplace("device_kind", device_kinds_.Text(kind));
    windows_.Add({{"model", model}, {"device_kind", device_kinds_.Text(kind)}}).Increment(report.windows);
  }
  runs_.Add(labels).Increment();
  for (const v1::StageTiming& timing : report.run.timings()) {
    // The queue has its own histogram, by priority.
    if (std::find(kRunStages.begin(), kRunStages.end(), timing.stage()) != kRunStages.end()) {
      AddStage(timing.stage(), model, timing.ms());
    }
  }
  AddStage("commit", model, report.commit_ms);
  durations_.Add({{"model", model}}, Seconds()).Observe(report.total_ms / 1000);
}

void Recorder::CountRun(const std::string& state, std::string_view model) {
  runs_.Add({{"state", state}, {"model", models_.Text(model)}}).Increment();
}

void Recorder::OnRunFailed(std::string_view model, std::string_view reason) {
  CountRun("FAILED", model);
  failures_.Add({{"model", models_.Text(model)}, {"reason", run_reasons_.Code(reason)}}).Increment();
}

void Recorder::OnRunCancelled(std::string_view model) { CountRun("CANCELLED", model); }

void Recorder::OnRunQuarantined(std::string_view model) { CountRun("QUARANTINED", model); }

void Recorder::OnRunRequeued(std::string_view model, bool blamed) {
  requeued_.Add({{"model", models_.Text(model)}, {"blamed", blamed ? "yes" : "no"}}).Increment();
}

void Recorder::OnGenerationHeld(std::string_view model) {
  held_.Add({{"model", models_.Text(model)}}).Increment();
}

void Recorder::OnRunTakenOver(std::string_view model) {
  reused_.Add({{"model", models_.Text(model)}}).Increment();
}

void Recorder::AddRestarts(const std::string& device, std::string_view cause, double count) {
  restarts_.Add({{"device", devices_.Text(device)}, {"reason", std::string(cause)}}).Increment(count);
}

void Recorder::OnWorkerDeath(const std::string& device, std::string_view cause) {
  AddRestarts(device, cause, 1);
}

}  // namespace tomoserve::metrics
