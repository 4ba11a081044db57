// From the dispatcher's events and activity to the exposition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "metrics/labels.h"
#include "metrics/process.h"
#include "tomoserve/base/status.h"
#include "tomoserve/metrics/metrics.h"

namespace tomoserve::metrics {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;

// Answers what a scrape asks; nothing else is asked here.
class IdleDispatcher final : public dispatch::Dispatcher {
 public:
  absl::StatusOr<std::unique_ptr<dispatch::Upload>> BeginUpload(const v1::SubmissionHeader&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Study> GetStudy(std::string_view) override { return absl::UnimplementedError(""); }
  absl::StatusOr<v1::Study> CloseStudy(std::string_view) override { return absl::UnimplementedError(""); }
  absl::StatusOr<v1::CancelStudyResponse> CancelStudy(std::string_view, std::string_view) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::Study> UpdateStudy(const v1::UpdateStudyRequest&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::PlanStudyResponse> PlanStudy(const v1::PlanStudyRequest&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<v1::RerunStudyResponse> RerunStudy(const v1::RerunStudyRequest&) override {
    return absl::UnimplementedError("");
  }
  std::vector<dispatch::ModelStatus> Models() override { return {}; }
  absl::StatusOr<dispatch::Reloaded> ReloadModels() override { return dispatch::Reloaded(); }
  absl::StatusOr<dispatch::ModelStatus> SetActivation(const v1::SetActivationRequest&) override {
    return absl::UnimplementedError("");
  }
  absl::StatusOr<std::vector<v1::ActivationRecord>> ActivationHistory(std::string_view,
                                                                      std::string_view) override {
    return absl::UnimplementedError("");
  }
  std::vector<dispatch::DeviceInfo> Devices() override {
    dispatch::DeviceInfo cpu;
    cpu.device = "cpu";
    return {cpu};
  }
  store::JobStore& store() override { std::abort(); }
  Subscription Subscribe(std::function<void(const std::string&, const std::string&)>) override { return {}; }
  std::string NotReady() override { return not_ready; }
  absl::Status CheckAlive(std::chrono::milliseconds) override { return activity.status(); }
  absl::StatusOr<dispatch::Activity> Observe(std::chrono::milliseconds) override { return activity; }
  void Drain(std::chrono::milliseconds) override {}

  std::string not_ready;
  absl::StatusOr<dispatch::Activity> activity = dispatch::Activity();
};

class MetricsTest : public ::testing::Test {
 protected:
  std::string Text() { return metrics_->Text(dispatcher_); }
  // Value by "name{labels}" as it stands in the text.
  std::map<std::string, double> Samples() {
    std::map<std::string, double> samples;
    std::istringstream lines(Text());
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line.front() == '#') continue;
      const std::size_t space = line.rfind(' ');
      EXPECT_TRUE(samples.emplace(line.substr(0, space), std::strtod(line.c_str() + space, nullptr)).second)
          << "a series stands twice: " << line;
    }
    return samples;
  }
  dispatch::Observer& observer() { return metrics_->observer(); }

  IdleDispatcher dispatcher_;
  std::unique_ptr<Metrics> metrics_ = CreateMetrics("0.1.0+abc");
};

v1::Run DoneRun() {
  v1::Run run;
  run.set_model("finder");
  run.mutable_flag()->set_state(v1::FLAG_STATE_FLAGGED);
  run.mutable_flag()->set_level(v1::FLAG_LEVEL_URGENT);
  run.mutable_provenance()->set_device_kind("cpu AVX2");
  for (const char* stage : {"queue", "decode", "forward", "something_else"}) {
    v1::StageTiming& timing = *run.add_timings();
    timing.set_stage(stage);
    timing.set_ms(1500);
  }
  return run;
}

TEST_F(MetricsTest, ADoneRunIsCountedByFlagLevelModelAndDeviceKind) {
  const v1::Run run = DoneRun();
  for (int i = 0; i < 2; ++i)
    observer().OnRunDone({.run = run, .windows = 40, .commit_ms = 20, .total_ms = 9000});
  const auto samples = Samples();
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_runs_total{device_kind=\"cpu AVX2\",flag=\"FLAGGED\",level=\"URGENT\","
                            "model=\"finder\",state=\"DONE\"}",
                            2)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_windows_total{device_kind=\"cpu AVX2\",model=\"finder\"}", 80)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_stage_duration_seconds_sum{model=\"finder\",stage=\"forward\"}", 3)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_stage_duration_seconds_count{model=\"finder\",stage=\"commit\"}", 2)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_run_duration_seconds_sum{model=\"finder\"}", 18)));
  // The queue has its own histogram, and a worker cannot make stages up.
  EXPECT_THAT(samples,
              Not(Contains(Key("tomoserve_stage_duration_seconds_sum{model=\"finder\",stage=\"queue\"}"))));
  EXPECT_THAT(Text(), Not(HasSubstr("something_else")));
}

TEST_F(MetricsTest, ARunThatNeededNoDeviceHasNoDeviceKind) {
  v1::Run run;
  run.set_model("finder");
  run.mutable_flag()->set_state(v1::FLAG_STATE_NOT_APPLICABLE);
  observer().OnRunDone({.run = run});
  const auto samples = Samples();
  EXPECT_THAT(
      samples,
      Contains(Pair("tomoserve_runs_total{flag=\"NOT_APPLICABLE\",model=\"finder\",state=\"DONE\"}", 1)));
}

TEST_F(MetricsTest, QueueSecondsAreKeptByPriority) {
  observer().OnRunDequeued(v1::PRIORITY_STAT, 250);
  observer().OnRunDequeued(v1::PRIORITY_UNSPECIFIED, 8000);
  const auto samples = Samples();
  EXPECT_THAT(samples, Contains(Pair("tomoserve_queue_duration_seconds_sum{priority=\"STAT\"}", 0.25)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_queue_duration_seconds_sum{priority=\"ROUTINE\"}", 8)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_queue_duration_seconds_count{priority=\"URGENT\"}", 0)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_queue_duration_seconds_bucket{priority=\"STAT\",le=\"0.25\"}", 1)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_queue_duration_seconds_bucket{priority=\"STAT\",le=\"0.1\"}", 0)));
}

TEST_F(MetricsTest, WhatWentWrongIsCountedByReason) {
  observer().OnRunFailed("finder", "DECODE_FAILED");
  observer().OnRunCancelled("finder");
  observer().OnRunQuarantined("finder");
  observer().OnRunRequeued("finder", true);
  observer().OnRunTakenOver("finder");
  observer().OnGenerationHeld("finder");
  observer().OnSubmissionRefused("ALL_REFUSED");
  observer().OnInstanceRefused("NOT_DICOM");
  observer().OnInstanceRefused("Smith^John");
  observer().OnWorkerDeath("cpu", "SIGNAL");
  const auto samples = Samples();
  for (const char* series :
       {"tomoserve_runs_total{model=\"finder\",state=\"FAILED\"}",
        "tomoserve_run_failures_total{model=\"finder\",reason=\"DECODE_FAILED\"}",
        "tomoserve_runs_total{model=\"finder\",state=\"CANCELLED\"}",
        "tomoserve_runs_total{model=\"finder\",state=\"QUARANTINED\"}",
        "tomoserve_runs_requeued_total{blamed=\"yes\",model=\"finder\"}",
        "tomoserve_generations_held_total{model=\"finder\"}", "tomoserve_runs_reused_total{model=\"finder\"}",
        "tomoserve_submissions_refused_total{reason=\"ALL_REFUSED\"}",
        "tomoserve_instances_refused_total{reason=\"NOT_DICOM\"}",
        "tomoserve_instances_refused_total{reason=\"OTHER\"}",
        "tomoserve_worker_restarts_total{device=\"cpu\",reason=\"SIGNAL\"}"}) {
    EXPECT_THAT(samples, Contains(Pair(series, 1)));
  }
  // Alerts on an increase need the zero before it.
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_worker_restarts_total{device=\"cpu\",reason=\"OOM_KILLER\"}", 0)));
  EXPECT_THAT(Text(), Not(HasSubstr("Smith")));
}

TEST_F(MetricsTest, SubmissionsAreCountedWithTheirInstancesAndStages) {
  v1::SubmissionReceipt receipt;
  receipt.set_study_instance_uid("1.2.840.99");
  receipt.set_instances_accepted(7);
  receipt.set_instances_duplicate(2);
  observer().OnUploadBytes(1000);
  observer().OnUploadBytes(24);
  observer().OnSubmissionAcknowledged(
      {.receipt = receipt, .upload_ms = 500, .header_ms = 250, .acknowledge_ms = 125});
  const auto samples = Samples();
  EXPECT_THAT(samples, Contains(Pair("tomoserve_received_bytes_total", 1024)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_submissions_acknowledged_total", 1)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_instances_accepted_total", 7)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_instances_duplicate_total", 2)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_stage_duration_seconds_sum{stage=\"upload\"}", 0.5)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_stage_duration_seconds_sum{stage=\"header\"}", 0.25)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_stage_duration_seconds_sum{stage=\"acknowledge\"}", 0.125)));
  EXPECT_THAT(Text(), Not(HasSubstr("1.2.840.99")));
}

TEST_F(MetricsTest, WhatGoesOnIsAskedAtEachScrape) {
  dispatcher_.activity->priorities[v1::PRIORITY_STAT] = {
      .waiting = 3, .in_flight = 1, .oldest_wait_ms = 1500};
  dispatcher_.activity->incomplete = 2;
  dispatcher_.activity->devices = {{.device = "cpu",
                                    .device_kind = "fake",
                                    .ready = true,
                                    .runs = 1,
                                    .memory_bytes = 1000,
                                    .predicted_bytes = 300,
                                    .worker_pid = ::getpid(),
                                    .batch_windows = 30,
                                    .batch_slots = 32,
                                    .busy_seconds = 2.5},
                                   {.device = "cpu", .device_kind = ""},
                                   {.device = "cuda:0",
                                    .device_kind = "fake",
                                    .is_gpu = true,
                                    .gpu_used_bytes = 4000,
                                    .worker_pid = ::getpid()}};
  dispatcher_.activity->models = {
      {.model = "finder", .version = "1", .device = "cpu", .worker = 0, .ready = true, .warm = false},
      {.model = "finder", .version = "1", .device = "cpu", .worker = 1, .ready = false}};
  dispatcher_.activity->host_bytes = 77;
  dispatcher_.activity->helper_deaths = 5;
  const auto samples = Samples();
  EXPECT_THAT(samples, Contains(Pair("tomoserve_ready", 1)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_coordinator_alive", 1)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_runs_waiting{priority=\"STAT\"}", 3)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_oldest_wait_seconds{priority=\"STAT\"}", 1.5)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_runs_in_flight{priority=\"STAT\"}", 1)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_runs_incomplete", 2)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_device_busy{device=\"cpu\",worker=\"0\"}", 1)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_device_ready{device=\"cpu\",worker=\"1\"}", 0)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_device_memory_predicted_bytes{device=\"cpu\",worker=\"0\"}", 300)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_device_memory_limit_bytes{device=\"cpu\",worker=\"0\"}", 1000)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_worker_memory_used_bytes{device=\"cpu\",worker=\"0\"}",
                                     ::testing::Gt(1e6))));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_worker_memory_used_bytes{device=\"cpu\",worker=\"1\"}", 0)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_worker_memory_used_bytes{device=\"cuda:0\",worker=\"2\"}",
                                     ::testing::Gt(1e6))));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_batch_windows_total{device=\"cpu\",worker=\"0\"}", 30)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_batch_slots_total{device=\"cpu\",worker=\"0\"}", 32)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_device_busy_seconds_total{device=\"cpu\",worker=\"0\"}", 2.5)));
  // A CPU's memory is the process's; what a GPU holds is what its worker says.
  EXPECT_THAT(samples, Contains(Pair("tomoserve_device_memory_used_bytes{device=\"cpu\",worker=\"0\"}",
                                     ::testing::Gt(1e6))));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_device_memory_used_bytes{device=\"cpu\",worker=\"1\"}", 0)));
  EXPECT_THAT(samples,
              Contains(Pair("tomoserve_device_memory_used_bytes{device=\"cuda:0\",worker=\"2\"}", 4000)));
  EXPECT_THAT(
      samples,
      Contains(Pair("tomoserve_model_ready{device=\"cpu\",worker=\"0\",model=\"finder\",version=\"1\"}", 1)));
  EXPECT_THAT(
      samples,
      Contains(Pair("tomoserve_model_warm{device=\"cpu\",worker=\"0\",model=\"finder\",version=\"1\"}", 0)));
  EXPECT_THAT(
      samples,
      Contains(Pair("tomoserve_model_ready{device=\"cpu\",worker=\"1\",model=\"finder\",version=\"1\"}", 0)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_host_memory_used_bytes", 77)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_helper_deaths_total", 5)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_build_info{build=\"0.1.0+abc\"}", 1)));
}

TEST_F(MetricsTest, AStalledDispatcherIsShownAndItsCountersRemain) {
  observer().OnUploadBytes(10);
  dispatcher_.activity =
      base::Error(absl::StatusCode::kDeadlineExceeded, "COORDINATOR_STALLED", "1000", "hangs");
  dispatcher_.not_ready = "STARTING";
  const auto samples = Samples();
  EXPECT_THAT(samples, Contains(Pair("tomoserve_coordinator_alive", 0)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_ready", 0)));
  EXPECT_THAT(samples, Contains(Pair("tomoserve_received_bytes_total", 10)));
  EXPECT_THAT(samples, Not(Contains(Key("tomoserve_host_memory_used_bytes"))));
}

TEST_F(MetricsTest, EveryFamilyIsDescribedBeforeItsFirstEvent) {
  const std::string text = Text();
  for (const char* name : {"tomoserve_runs_total", "tomoserve_run_failures_total", "tomoserve_windows_total",
                           "tomoserve_submissions_refused_total", "tomoserve_run_duration_seconds"}) {
    EXPECT_THAT(text, HasSubstr(std::string("# HELP ") + name + " "));
    EXPECT_THAT(text, HasSubstr(std::string("# TYPE ") + name + " "));
  }
}

TEST_F(MetricsTest, TheProcessShowsItself) {
  const auto samples = Samples();
  EXPECT_GT(samples.at("process_resident_memory_bytes"), 1e6);
  EXPECT_GT(samples.at("process_virtual_memory_bytes"), samples.at("process_resident_memory_bytes"));
  EXPECT_GE(samples.at("process_threads"), 1);
  EXPECT_GE(samples.at("process_open_fds"), 3);
  EXPECT_GT(samples.at("process_max_fds"), samples.at("process_open_fds"));
  EXPECT_GE(samples.at("process_cpu_seconds_total"), 0);
  const auto now = static_cast<double>(::time(nullptr));
  EXPECT_GT(samples.at("process_start_time_seconds"), now - 3600);
  EXPECT_LE(samples.at("process_start_time_seconds"), now + 2);
}

TEST_F(MetricsTest, EventsAndScrapesMayMeet) {
  constexpr int kEvents = 2000;
  std::atomic<bool> done = false;
  std::thread scraper([&] {
    while (!done) Text();
  });
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([this, run = DoneRun()] {
      for (int event = 0; event < kEvents; ++event) {
        observer().OnUploadBytes(1);
        observer().OnRunDone({.run = run, .windows = 1});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  done = true;
  scraper.join();
  const auto samples = Samples();
  EXPECT_EQ(samples.at("tomoserve_received_bytes_total"), 4 * kEvents);
  EXPECT_EQ(samples.at("tomoserve_windows_total{device_kind=\"cpu AVX2\",model=\"finder\"}"), 4 * kEvents);
}

TEST(LabelValuesTest, TheRestIsOther) {
  LabelValues values(3);
  EXPECT_EQ(values.Code("A_1"), "A_1");
  EXPECT_EQ(values.Code("B"), "B");
  EXPECT_EQ(values.Text("c d"), "c d");
  EXPECT_EQ(values.Code("D"), "OTHER");
  EXPECT_EQ(values.Code("B"), "B");
}

TEST(LabelValuesTest, OnlyCodesPassAsCodes) {
  LabelValues values(100);
  for (const char* value : {"", "lower", "1.2.3", "A B", "A\n", "_A", "9A", "\xc3\x84"}) {
    EXPECT_EQ(values.Code(value), "OTHER") << value;
  }
  EXPECT_EQ(values.Code(std::string(129, 'A')), "OTHER");
}

TEST(LabelValuesTest, TextIsCutAndMadePrintable) {
  LabelValues values(100);
  EXPECT_EQ(values.Text("a\nb\x80"), "a_b_");
  EXPECT_EQ(values.Text(std::string(200, 'x')), std::string(128, 'x'));
}

TEST(ProcessTest, AProcessThatIsGoneHasNoMemory) { EXPECT_EQ(ResidentBytes(4194304 + 1), 0u); }

TEST(PriorityLabelTest, WhatIsNoPriorityIsRoutine) {
  EXPECT_EQ(PriorityLabel(v1::PRIORITY_STAT), "STAT");
  EXPECT_EQ(PriorityLabel(v1::PRIORITY_URGENT), "URGENT");
  EXPECT_EQ(PriorityLabel(v1::PRIORITY_ROUTINE), "ROUTINE");
  EXPECT_EQ(PriorityLabel(v1::PRIORITY_UNSPECIFIED), "ROUTINE");
  EXPECT_EQ(PriorityLabel(static_cast<v1::Priority>(99)), "ROUTINE");
}

}  // namespace
}  // namespace tomoserve::metrics
