// Counts the dispatcher's events.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <string>
#include <string_view>
#include <vector>

#include "metrics/labels.h"
#include "tomoserve/dispatch/observer.h"

namespace tomoserve::metrics {

// Thread-safe. An event takes a family's lock for a moment, as a scrape does while it copies the family; no
// lock is held while anything is written or sent.
class Recorder final : public dispatch::Observer {
 public:
  Recorder();

  // All families, those too of which nothing was counted yet.
  std::vector<prometheus::MetricFamily> Collect() const;
  // From here on the device's restarts are counted from zero, whatever their cause.
  void AddDevice(const std::string& device);

  void OnUploadBytes(std::uint64_t bytes) override;
  void OnInstanceRefused(std::string_view reason) override;
  void OnSubmissionAcknowledged(const dispatch::SubmissionReport& report) override;
  void OnSubmissionRefused(std::string_view reason) override;
  void OnRunDequeued(v1::Priority priority, double queue_ms) override;
  void OnRunDone(const dispatch::RunReport& report) override;
  void OnRunFailed(std::string_view model, std::string_view reason) override;
  void OnRunCancelled(std::string_view model) override;
  void OnRunQuarantined(std::string_view model) override;
  void OnRunRequeued(std::string_view model, bool blamed) override;
  void OnGenerationHeld(std::string_view model) override;
  void OnRunTakenOver(std::string_view model) override;
  void OnWorkerDeath(const std::string& device, std::string_view cause) override;

 private:
  using Counters = prometheus::Family<prometheus::Counter>;
  using Histograms = prometheus::Family<prometheus::Histogram>;

  Counters& Count(const char* name, const char* help);
  Histograms& Measure(const char* name, const char* help);
  void AddStage(const std::string& stage, const std::string& model, double ms);
  void CountRun(const std::string& state, std::string_view model);
  void AddRestarts(const std::string& device, std::string_view cause, double count);

  prometheus::Registry registry_;
  std::vector<prometheus::MetricFamily> heads_;  // without metrics

  LabelValues models_{256};
  LabelValues device_kinds_{32};
  LabelValues devices_{64};
  // Apart, so that nobody's inventions crowd out the others.
  LabelValues helper_reasons_{128};
  LabelValues run_reasons_{128};
  LabelValues submission_reasons_{128};

  prometheus::Counter& bytes_;
  prometheus::Counter& acknowledged_;
  prometheus::Counter& accepted_;
  prometheus::Counter& duplicate_;
  Counters& refused_;
  Counters& refused_instances_;
  Histograms& stages_;
  Histograms& queue_;
  Histograms& durations_;
  Counters& runs_;
  Counters& failures_;
  Counters& requeued_;
  Counters& held_;
  Counters& reused_;
  Counters& windows_;
  Counters& restarts_;
};

}  // namespace tomoserve::metrics
