// tomoctl load: studies at random times against a running server, and how long each took.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/load_metrics.h"
#include "apps/tomoctl/load_plan.h"
#include "apps/tomoctl/load_report.h"
#include "apps/tomoctl/load_run.h"
#include "apps/tomoctl/load_studies.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/v1/model_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

struct Options {
  LoadOptions load;
  double per_hour = 0;
  std::string mix = "routine";
  std::string sizes = "128x60";
  std::vector<double> spacing{2.5, 2.5, 3};
  std::vector<std::string> studies;
  std::string metrics;
  std::string csv;
  bool json = false;
};

// Fills the mixes of `options` and makes the studies. Errors: those of mixes, sizes, phantoms and files.
absl::StatusOr<std::vector<LoadStudy>> Prepare(Options& options) {
  TS_ASSIGN_OR_RETURN(options.load.priorities, ParseMix(options.mix));
  for (const Share& priority : options.load.priorities) {
    if (priority.name != "routine" && priority.name != "urgent" && priority.name != "stat") {
      return base::Error(absl::StatusCode::kInvalidArgument, "LOAD_MIX", priority.name,
                         "priorities are routine, urgent and stat");
    }
  }
  std::vector<LoadStudy> studies;
  if (!options.studies.empty()) {
    const double share = 1.0 / static_cast<double>(options.studies.size());
    for (const std::string& folder : options.studies) {
      TS_ASSIGN_OR_RETURN(LoadStudy study, LoadStudy::Read(folder));
      studies.push_back(std::move(study));
      options.load.sizes.push_back({folder, share});
    }
    return studies;
  }
  TS_ASSIGN_OR_RETURN(options.load.sizes, ParseMix(options.sizes));
  for (const Share& entry : options.load.sizes) {
    TS_ASSIGN_OR_RETURN(const PhantomSize size, ParsePhantomSize(entry.name));
    TS_ASSIGN_OR_RETURN(LoadStudy study,
                        MakeLoadStudy(size, options.spacing, options.load.seed + studies.size()));
    studies.push_back(std::move(study));
  }
  return studies;
}

// By the plan of one study of each kind that went well.
std::vector<std::optional<std::uint64_t>> Windows(const LoadOptions& options, const LoadRun& run) {
  std::vector<std::optional<std::uint64_t>> windows(options.sizes.size());
  for (std::size_t study = 0; study < windows.size(); ++study) {
    const auto done = std::find_if(run.samples.begin(), run.samples.end(), [&](const LoadSample& sample) {
      return sample.study == study && sample.final_s;
    });
    if (done != run.samples.end()) windows[study] = WindowsOf(options, done->study_uid);
  }
  return windows;
}

int Fail(const absl::Status& status) {
  std::cerr << "tomoctl: " << base::ReasonOf(status) << "(" << base::ValueOf(status)
            << "): " << status.message() << '\n';
  return status.code() == absl::StatusCode::kInvalidArgument ? kUsage : kFailed;
}

int RunAndReport(Options& options, const Context& context) {
  options.load.server = context.server;
  options.load.per_second = options.load.closed > 0 ? 1 : options.per_hour / 3600;
  const auto models = v1::ModelService::NewStub(Connect(context.server));
  grpc::ClientContext call;
  v1::ListModelsResponse listed;
  if (const grpc::Status status = models->ListModels(&call, {}, &listed); !status.ok())
    return Report(status, context.server);
  if (!options.metrics.empty()) {
    if (const auto reached = FetchMetrics(options.metrics); !reached.ok()) return Fail(reached.status());
  }
  const auto studies = Prepare(options);
  if (!studies.ok()) return Fail(studies.status());

  const auto start = std::chrono::steady_clock::now();
  std::unique_ptr<MetricsWatch> watch;
  if (!options.metrics.empty()) watch = std::make_unique<MetricsWatch>(options.metrics, start);
  const LoadRun run = RunLoad(options.load, *studies, start);
  const std::vector<MetricSample> metrics = watch ? watch->Stop() : std::vector<MetricSample>();
  const nlohmann::ordered_json report = LoadReport(options.load, run, Windows(options.load, run), metrics);
  if (options.json) {
    std::cout << report.dump(1) << '\n';
  } else {
    std::cout << LoadTable(report);
  }
  if (!options.csv.empty()) {
    std::ofstream file(options.csv, std::ios::binary | std::ios::trunc);
    file << LoadCsv(options.load, run);
    if (!file.flush()) {
      return Fail(base::Error(absl::StatusCode::kInternal, "OUTPUT", options.csv,
                              absl::StrCat("cannot write to ", options.csv)));
    }
  }
  return report.at("failures").empty() ? kDone : kFailed;
}

}  // namespace

void AddLoad(CLI::App& app, Context& context) {
  CLI::App* verb = app.add_subcommand(
      "load", "Send studies at random times, whatever the server does, and measure how long each takes");
  const auto options = std::make_shared<Options>();
  verb->add_option("--model", options->load.models, "NAME[@VERSION], may be given several times")->required();
  CLI::Option* rate =
      verb->add_option("--rate", options->per_hour, "Studies an hour, as a Poisson process (open loop)")
          ->check(CLI::PositiveNumber);
  verb->add_option("--closed", options->load.closed,
                   "Instead: keep so many studies open at all times, to measure capacity")
      ->check(CLI::Range(1, 1000))
      ->excludes(rate);
  verb->add_option("--duration", options->load.duration_s, "Seconds that are measured")
      ->required()
      ->check(CLI::PositiveNumber);
  verb->add_option("--warm-up", options->load.warm_up_s, "Seconds before them that are not")
      ->check(CLI::NonNegativeNumber);
  options->load.drain_s = 300;
  verb->add_option("--drain", options->load.drain_s,
                   "Seconds that are waited afterwards for what is open (300)")
      ->check(CLI::PositiveNumber);
  options->load.max_open = 256;
  verb->add_option("--max-open", options->load.max_open,
                   "Studies open at a time; more are held back, which is reported (256)")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--mix", options->mix, "Priorities and their shares: routine:0.8,urgent:0.15,stat:0.05")
      ->capture_default_str();
  CLI::Option* sizes =
      verb->add_option("--sizes", options->sizes, "Phantoms and their shares: ROWSxSLICES:SHARE,...")
          ->capture_default_str();
  verb->add_option("--spacing", options->spacing, "Voxel spacing of the phantoms, mm (2.5,2.5,3)")
      ->delimiter(',')
      ->expected(3);
  verb->add_option("--study", options->studies,
                   "Instead of phantoms: a folder with one study; several share alike")
      ->excludes(sizes);
  verb->add_option("--seed", options->load.seed, "Of arrivals, priorities, sizes and phantoms")
      ->capture_default_str();
  verb->add_option("--metrics", options->metrics,
                   "The server's http://127.0.0.1:PORT/metrics, read meanwhile");
  verb->add_option("--csv", options->csv,
                   "One line for each study: when it was due, sent, acknowledged, final");
  verb->add_flag("--json", options->json, "Everything as JSON on standard output");
  verb->callback([options, &context] {
    if (options->load.closed == 0 && options->per_hour == 0) throw CLI::RequiredError("--rate or --closed");
    context.exit_code = RunAndReport(*options, context);
  });
}

}  // namespace tomoserve::tomoctl
