#include "metrics/snapshot.h"

#include "metrics/family.h"
#include "metrics/labels.h"
#include "metrics/process.h"

namespace tomoserve::metrics {
namespace {

using prometheus::MetricFamily;

struct RunFamilies {
  MetricFamily waiting = GaugeFamily("tomoserve_runs_waiting",
                                     "Runs whose input is complete and that no device has yet, by priority.");
  MetricFamily oldest = GaugeFamily("tomoserve_oldest_wait_seconds",
                                    "How long the longest waiting run has waited, by priority.");
  MetricFamily in_flight = GaugeFamily("tomoserve_runs_in_flight",
                                       "Runs on a device, or whose result is being committed, by priority.");
  MetricFamily incomplete =
      GaugeFamily("tomoserve_runs_incomplete", "Runs that wait for the rest of their study.");

  void Fill(const dispatch::Activity& activity) {
    for (const auto& [priority, runs] : activity.priorities) {
      const std::string name = PriorityLabel(priority);
      AddSample(waiting, runs.waiting, {{"priority", name}});
      AddSample(oldest, runs.oldest_wait_ms / 1000, {{"priority", name}});
      AddSample(in_flight, runs.in_flight, {{"priority", name}});
    }
    AddSample(incomplete, activity.incomplete);
  }
};

struct DeviceFamilies {
  MetricFamily ready =
      GaugeFamily("tomoserve_device_ready", "1 where the worker is up and every model is warm or refused.");
  MetricFamily busy = GaugeFamily("tomoserve_device_busy", "1 while the worker has a run.");
  MetricFamily limit = GaugeFamily("tomoserve_device_memory_limit_bytes",
                                   "Memory that runs may use there, as the worker says.");
  MetricFamily predicted =
      GaugeFamily("tomoserve_device_memory_predicted_bytes",
                  "Weights of the models that are warm there and what the run on it was predicted to need.");
  MetricFamily used =
      GaugeFamily("tomoserve_device_memory_used_bytes",
                  "Memory of the device that its worker holds: of a GPU as the worker says, of a "
                  "CPU the process's own.");
  MetricFamily worker_used =
      GaugeFamily("tomoserve_worker_memory_used_bytes",
                  "Host memory of the worker's process; what a GPU holds is not in it.");
  MetricFamily batch_windows =
      CounterFamily("tomoserve_batch_windows_total", "Windows that were computed there, in batches.");
  MetricFamily batch_slots = CounterFamily(
      "tomoserve_batch_slots_total", "Places for windows in these batches: windows by slots is their fill.");
  MetricFamily busy_seconds =
      CounterFamily("tomoserve_device_busy_seconds_total",
                    "Seconds in which the worker's lanes computed windows, added up over its lanes.");
  MetricFamily model_ready = GaugeFamily("tomoserve_model_ready",
                                         "1 where the worker's device has the model for runs that want it.");
  MetricFamily model_warm =
      GaugeFamily("tomoserve_model_warm", "1 where the model is on the worker's device, warmed up.");

  void Fill(const dispatch::Activity& activity) {
    for (std::size_t worker = 0; worker < activity.devices.size(); ++worker) {
      const dispatch::DeviceActivity& device = activity.devices[worker];
      const SampleLabels labels = Labels(device.device, worker);
      AddSample(ready, device.ready ? 1 : 0, labels);
      AddSample(busy, device.runs > 0 ? 1 : 0, labels);
      AddSample(limit, device.memory_bytes, labels);
      AddSample(predicted, device.predicted_bytes, labels);
      const std::uint64_t resident = device.worker_pid > 0 ? ResidentBytes(device.worker_pid) : 0;
      AddSample(used, device.is_gpu ? device.gpu_used_bytes : resident, labels);
      AddSample(worker_used, resident, labels);
      AddSample(batch_windows, device.batch_windows, labels);
      AddSample(batch_slots, device.batch_slots, labels);
      AddSample(busy_seconds, device.busy_seconds, labels);
    }
    for (const dispatch::ModelActivity& model : activity.models) {
      SampleLabels labels = Labels(model.device, model.worker);
      labels.push_back({"model", model.model});
      labels.push_back({"version", model.version});
      AddSample(model_ready, model.ready ? 1 : 0, labels);
      AddSample(model_warm, model.warm ? 1 : 0, std::move(labels));
    }
  }

 private:
  // Two workers may share a device's name ("cpu,cpu").
  static SampleLabels Labels(const std::string& device, std::size_t worker) {
    return {{"device", device}, {"worker", std::to_string(worker)}};
  }
};

struct ServerFamilies {
  MetricFamily uploads = GaugeFamily("tomoserve_uploads_open", "Uploads in progress.");
  MetricFamily host_used = GaugeFamily("tomoserve_host_memory_used_bytes",
                                       "Host memory that decoded studies and label maps hold.");
  MetricFamily host_limit = GaugeFamily("tomoserve_host_memory_limit_bytes",
                                        "Host memory that decoded studies and label maps may hold.");
  MetricFamily leases = CounterFamily("tomoserve_helper_leases_total",
                                      "Helper processes that were forked, each for a part of one study.");
  MetricFamily deaths = CounterFamily("tomoserve_helper_deaths_total", "Helper processes that died at work.");
  MetricFamily spool_used =
      GaugeFamily("tomoserve_spool_used_bytes", "Disk space that the spool's files occupy.");
  MetricFamily spool_free =
      GaugeFamily("tomoserve_spool_free_bytes", "Disk space that is free on the spool's file system.");

  void Fill(const dispatch::Activity& activity) {
    AddSample(uploads, activity.open_uploads);
    AddSample(host_used, activity.host_bytes);
    AddSample(host_limit, activity.host_limit_bytes);
    AddSample(leases, activity.helper_leases);
    AddSample(deaths, activity.helper_deaths);
    AddSample(spool_used, activity.spool_bytes);
    AddSample(spool_free, activity.spool_free_bytes);
  }
};

}  // namespace

std::vector<MetricFamily> ActivityFamilies(const std::optional<dispatch::Activity>& activity, bool ready) {
  MetricFamily is_ready = GaugeFamily("tomoserve_ready", "1 while new work is taken, as /readyz says.");
  AddSample(is_ready, ready ? 1 : 0);
  MetricFamily is_alive = GaugeFamily("tomoserve_coordinator_alive", "1 while decisions are made in time.");
  AddSample(is_alive, activity ? 1 : 0);
  RunFamilies runs;
  DeviceFamilies devices;
  ServerFamilies server;
  if (activity) {
    runs.Fill(*activity);
    devices.Fill(*activity);
    server.Fill(*activity);
  }
  return {is_ready,
          is_alive,
          runs.waiting,
          runs.oldest,
          runs.in_flight,
          runs.incomplete,
          devices.ready,
          devices.busy,
          devices.limit,
          devices.predicted,
          devices.used,
          devices.worker_used,
          devices.batch_windows,
          devices.batch_slots,
          devices.busy_seconds,
          devices.model_ready,
          devices.model_warm,
          server.uploads,
          server.host_used,
          server.host_limit,
          server.leases,
          server.deaths,
          server.spool_used,
          server.spool_free};
}

MetricFamily BuildFamily(const std::string& build) {
  MetricFamily family = GaugeFamily("tomoserve_build_info", "Always 1; the build stands in the label.");
  AddSample(family, 1, {{"build", build}});
  return family;
}

}  // namespace tomoserve::metrics
