// tomoctl analyze: sends a study, waits for its runs, writes what came back.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/nifti.h"
#include "apps/tomoctl/submission.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/findings/flag.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string path;
  std::vector<std::string> models;
  std::string output;
  std::string key;
  std::string priority = "routine";
  bool save_labels = false;
  bool force = false;
  bool json = false;
};

v1::SubmissionHeader MakeHeader(const Options& options) {
  v1::SubmissionHeader header;
  header.set_idempotency_key(options.key);
  header.set_completion(v1::COMPLETION_FINAL);
  header.set_force_rerun(options.force);
  header.set_priority(options.priority == "stat"     ? v1::PRIORITY_STAT
                      : options.priority == "urgent" ? v1::PRIORITY_URGENT
                                                     : v1::PRIORITY_ROUTINE);
  for (const std::string& model : options.models) *header.add_models() = ParseModel(model);
  return header;
}

// What a run's files are called: its model; "model@version" where the model ran in several versions. No name
// or version has an '@'.
std::string FileName(const v1::Run& run, const std::vector<v1::Run>& runs) {
  const bool several = std::any_of(runs.begin(), runs.end(), [&](const v1::Run& other) {
    return other.model() == run.model() && other.version() != run.version();
  });
  return several ? absl::StrCat(run.model(), "@", run.version()) : run.model();
}

absl::Status WriteResults(const Options& options, v1::StudyService::Stub& stub, const v1::Study& study,
                          const std::vector<v1::Run>& runs) {
  const fs::path folder = options.output;
  std::error_code error;
  fs::create_directories(folder, error);
  std::ofstream file(folder / "findings.json", std::ios::binary);
  file << findings::FindingsJson(study, runs);
  if (error || !file.flush()) {
    return base::Error(absl::StatusCode::kInternal, "OUTPUT", folder.string(),
                       absl::StrCat("cannot write to ", folder.string()));
  }
  for (const v1::Run& run : runs) {
    if (!options.save_labels || !run.has_label_map()) continue;
    v1::ResultInfo info;
    TS_ASSIGN_OR_RETURN(const std::string voxels,
                        Download(stub, run.run_id(), v1::RESULT_KIND_LABEL_MAP, info));
    const fs::path prefix = folder / absl::StrCat("labels_", FileName(run, runs));
    TS_RETURN_IF_ERROR(WriteLabelMap(prefix.string(), info.label_map(), voxels));
  }
  return absl::OkStatus();
}

int Analyze(const Options& options, const Context& context) {
  const auto files = RegularFiles(options.path);
  if (!files.ok()) {
    std::cerr << "tomoctl: " << files.status().message() << '\n';
    return kUsage;
  }
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  Answer answer;
  const grpc::Status status = Submit(*stub, MakeHeader(options), *files, /*show=*/true, answer);
  if (!status.ok()) {
    const int code = Report(status, context.server);
    // Before the receipt an invalid argument is about the study itself.
    const bool refused = !answer.receipt && status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
    return refused ? kRefused : code;
  }
  if (!answer.receipt || !answer.study) return kFailed;

  std::vector<v1::Run> runs;
  bool failed = false;
  for (const std::string& id : answer.receipt->run_ids()) {
    const auto run = answer.runs.find(id);
    failed = failed || run == answer.runs.end() || run->second.state() != v1::RUN_STATE_DONE;
    if (run != answer.runs.end()) runs.push_back(run->second);
  }
  if (options.json) {
    std::cout << findings::FindingsJson(*answer.study, runs) << '\n';
  } else {
    for (const v1::Run& run : runs) PrintRun(run);
    if (runs.empty()) std::puts("no model was run: none is active for this study (name one with --model)");
  }
  if (!options.output.empty()) {
    if (const absl::Status written = WriteResults(options, *stub, *answer.study, runs); !written.ok()) {
      std::cerr << "tomoctl: " << base::ReasonOf(written) << ": " << written.message() << '\n';
      return kFailed;
    }
    std::fprintf(stderr, "results: %s\n", options.output.c_str());
  }
  return failed ? kFailed : kDone;
}

}  // namespace

void AddAnalyze(CLI::App& app, Context& context) {
  CLI::App* verb =
      app.add_subcommand("analyze", "Send a study, wait for its findings, write them to a folder");
  const auto options = std::make_shared<Options>();
  verb->add_option("path", options->path, "A DICOM file, or a folder with one study")->required();
  verb->add_option("--model", options->models,
                   "NAME[@VERSION], may be given several times; without: all active ones");
  verb->add_option("--output", options->output, "Folder for findings.json and label maps");
  verb->add_flag("--save-labels", options->save_labels,
                 "Also write label maps as labels_<model>.nii.gz, or labels_<model>@<version>.nii.gz")
      ->needs("--output");
  verb->add_option("--priority", options->priority, "routine, urgent or stat")
      ->check(CLI::IsMember({"routine", "urgent", "stat"}));
  verb->add_option("--key", options->key, "Idempotency key: an interrupted upload goes on where it stopped");
  verb->add_flag("--force", options->force, "Run again even if this input has a result");
  verb->add_flag("--json", options->json, "Print findings.json on standard output");
  verb->callback([options, &context] { context.exit_code = Analyze(*options, context); });
}

}  // namespace tomoserve::tomoctl
