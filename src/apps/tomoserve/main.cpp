// tomoserve: the front. Takes studies over gRPC, keeps them, hands them to helpers and workers, answers.
#include <signal.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tomoserve/base/config.h"
#include "tomoserve/base/log.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/ipc/child.h"
#include "tomoserve/metrics/exposer.h"
#include "tomoserve/metrics/metrics.h"
#include "tomoserve/service/server.h"

namespace tomoserve {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr auto kDrainTime = std::chrono::seconds(15);
constexpr auto kCloseTime = std::chrono::seconds(5);
// A slow disk holds a commit up for a moment; who does not decide anything for so long hangs.
constexpr auto kAliveTime = std::chrono::seconds(10);
constexpr rlim_t kOpenFiles = 65536;

struct Arguments {
  std::string config_file;
  std::string listen;
  std::string metrics_listen;
  std::string data;
  std::vector<std::string> models;
  std::string devices;
  std::uint32_t min_devices = 0;
};

absl::StatusOr<config::v1::ServerConfig> ReadConfig(const Arguments& arguments) {
  config::v1::ServerConfig config;
  if (!arguments.config_file.empty()) {
    std::ifstream file(arguments.config_file);
    if (!file) {
      return base::Error(absl::StatusCode::kNotFound, "CONFIG_FILE", arguments.config_file,
                         "the configuration file cannot be read");
    }
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    TS_ASSIGN_OR_RETURN(config, base::ParseServerConfig(text));
  }
  // The command line overrides the file.
  if (!arguments.listen.empty()) config.set_listen(arguments.listen);
  if (!arguments.metrics_listen.empty()) config.set_metrics_listen(arguments.metrics_listen);
  if (!arguments.data.empty()) config.set_data(arguments.data);
  if (!arguments.models.empty())
    config.mutable_models()->Assign(arguments.models.begin(), arguments.models.end());
  if (!arguments.devices.empty()) {
    const std::vector<std::string> devices = absl::StrSplit(arguments.devices, ',', absl::SkipEmpty());
    config.mutable_devices()->Assign(devices.begin(), devices.end());
  }
  if (arguments.min_devices > 0) config.set_min_devices(arguments.min_devices);
  TS_RETURN_IF_ERROR(base::CompleteServerConfig(config));
  if (!config.metrics_listen().empty()) {
    // Before the first worker is started.
    TS_RETURN_IF_ERROR(metrics::ParseMetricsListen(config.metrics_listen()).status());
  }
  return config;
}

void RaiseOpenFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < kOpenFiles) {
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? kOpenFiles : std::min(limit.rlim_max, kOpenFiles);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int Fail(const absl::Status& status, int code) {
  std::cerr << "tomoserve: " << base::ReasonOf(status) << ": " << status.message() << '\n';
  return code;
}

// SIGTERM and SIGINT, blocked in every thread, taken here.
class StopSignal {
 public:
  StopSignal() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
  }
  // True when a signal came within `time`.
  bool WaitFor(std::chrono::milliseconds time) const {
    const timespec wait{time.count() / 1000, (time.count() % 1000) * 1000000};
    return ::sigtimedwait(&set_, nullptr, &wait) > 0;
  }

 private:
  sigset_t set_{};
};

// Nothing where no address is configured.
absl::StatusOr<std::unique_ptr<metrics::Exposer>> Expose(const std::string& listen, metrics::Metrics& metrics,
                                                         dispatch::Dispatcher& dispatcher,
                                                         service::Server& server) {
  if (listen.empty()) return nullptr;
  TS_ASSIGN_OR_RETURN(
      std::unique_ptr<metrics::Exposer> exposer,
      metrics::StartExposer(listen, {.metrics = [&] { return metrics.Text(dispatcher); },
                                     .not_alive =
                                         [&] {
                                           const absl::Status status = dispatcher.CheckAlive(kAliveTime);
                                           return status.ok() ? std::string() : base::ReasonOf(status);
                                         },
                                     .not_ready = [&] { return server.UpdateHealth(); }}));
  base::Log(base::LogLevel::kInfo, "metrics", {{"port", static_cast<std::int64_t>(exposer->port())}});
  return exposer;
}

int Fail(const absl::Status& status) {
  return Fail(status, absl::IsInvalidArgument(status) ? kExitUsage : kExitFailed);
}

int Serve(config::v1::ServerConfig config) {
  const StopSignal stop;  // before the first thread
  RaiseOpenFiles();
  const std::string listen = config.listen();
  const std::string metrics_listen = config.metrics_listen();
  const std::unique_ptr<metrics::Metrics> metrics = metrics::CreateMetrics(TOMOSERVE_BUILD);
  dispatch::DispatcherOptions options;
  options.observer = &metrics->observer();
  options.lock_folder = config.lock_folder();
  options.config = std::move(config);
  options.build = TOMOSERVE_BUILD;
  options.helper_program = ipc::SiblingProgram("tomoserve-dicom");
  options.worker_program = ipc::SiblingProgram("tomoserve-worker");
  auto dispatcher = dispatch::StartDispatcher(std::move(options));
  if (!dispatcher.ok()) return Fail(dispatcher.status(), kExitFailed);

  auto server = service::StartServer({.listen = listen}, **dispatcher);
  if (!server.ok()) return Fail(server.status());
  auto exposer = Expose(metrics_listen, *metrics, **dispatcher, **server);
  if (!exposer.ok()) return Fail(exposer.status());
  bool announced = false;
  absl::Status enough;
  while (enough.ok() && !stop.WaitFor(std::chrono::milliseconds(announced ? 1000 : 20))) {
    (*server)->UpdateHealth();
    if (!announced && (*dispatcher)->ready()) {
      announced = true;
      (*server)->UpdateHealth();
      std::cout << "ready " << (*server)->port() << std::endl;
      base::Log(base::LogLevel::kInfo, "serving", {{"port", static_cast<std::int64_t>((*server)->port())}});
    }
    enough = (*dispatcher)->CheckDevices();
  }
  base::Log(base::LogLevel::kInfo, "draining");
  (*server)->StopServing();
  (*dispatcher)->Drain(kDrainTime);
  (*server)->Shutdown(kCloseTime);
  exposer->reset();
  server->reset();
  dispatcher->reset();
  base::Log(base::LogLevel::kInfo, "stopped");
  return enough.ok() ? 0 : Fail(enough, kExitFailed);
}

int Main(int argc, char** argv) {
  CLI::App app("Tomoserve: inference server for 3D medical images");
  Arguments arguments;
  app.add_option("--config", arguments.config_file, "Configuration file (textproto of ServerConfig)");
  app.add_option("--listen", arguments.listen, "Loopback address, HOST:PORT; port 0 picks one");
  app.add_option("--metrics-listen", arguments.metrics_listen,
                 "Loopback address for /metrics, /healthz and /readyz; port 0 picks one; default: none");
  app.add_option("--data", arguments.data, "Folder for the database and the spool");
  app.add_option("--models", arguments.models, "Model repositories; their models are ACTIVE");
  app.add_option("--devices", arguments.devices, "cpu[,cpu...], cuda:N[,...], cuda:all or auto");
  app.add_option("--min-devices", arguments.min_devices,
                 "Fewest devices that must be able to serve; default: all of them");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitUsage;
  }
  auto config = ReadConfig(arguments);
  if (!config.ok()) return Fail(config.status(), kExitUsage);
  return Serve(*std::move(config));
}

}  // namespace
}  // namespace tomoserve

int main(int argc, char** argv) { return tomoserve::Main(argc, argv); }
