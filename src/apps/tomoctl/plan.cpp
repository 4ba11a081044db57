// tomoctl plan: what would run on a study, on which series, and why not on the others. Of a study that the
// server has, or of files here.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/local_study.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/base/status.h"
#include "tomoserve/dispatch/local_plan.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

struct Options {
  std::string study;  // Study Instance UID, or a path
  std::vector<std::string> models;
  std::vector<std::string> repositories;
  bool json = false;
};

std::string Short(const v1::Reason& reason) {
  return absl::StrCat(reason.code(), reason.value().empty() ? "" : absl::StrCat("(", reason.value(), ")"));
}

std::string Why(const v1::SeriesUse& use) {
  return absl::StrJoin(use.reasons(), ", ", [](std::string* out, const v1::Reason& reason) {
    absl::StrAppend(out, Short(reason), reason.text().empty() ? "" : absl::StrCat(": ", reason.text()));
  });
}

void PrintTable(const v1::PlannedRun& run) {
  std::printf("%s %s: ", run.model().c_str(), run.version().c_str());
  if (run.applicable()) {
    std::printf("would run; %u windows", run.windows());
    if (run.predicted_seconds() > 0) std::printf(", about %.1f s", run.predicted_seconds());
    std::printf(", %.0f MB\n", static_cast<double>(run.predicted_bytes()) / 1e6);
  } else {
    std::printf("would not run\n");
  }
  for (const v1::Reason& reason : run.reasons()) {
    std::printf("  %s%s%s\n", Short(reason).c_str(), reason.text().empty() ? "" : ": ",
                reason.text().c_str());
  }
  std::size_t widest = std::string_view("series").size();
  for (const v1::SeriesUse& use : run.series()) widest = std::max(widest, use.series_instance_uid().size());
  const int width = static_cast<int>(widest);
  std::printf("  %-*s  %-8s  %9s  %-6s  %s\n", width, "series", "modality", "instances", "chosen", "why");
  for (const v1::SeriesUse& use : run.series()) {
    std::printf("  %-*s  %-8s  %9u  %-6s  %s\n", width, use.series_instance_uid().c_str(),
                use.modality().c_str(), use.instances(), use.analysed() ? "yes" : "no", Why(use).c_str());
  }
}

void Print(const v1::PlanStudyResponse& plan, bool json) {
  if (json) return PrintJson(plan);
  for (const v1::PlannedRun& run : plan.runs()) PrintTable(run);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "tomoctl: %s: %s\n", base::ReasonOf(status).c_str(),
               std::string(status.message()).c_str());
  return kFailed;
}

int PlanStored(const Options& options, const Context& context) {
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  v1::PlanStudyRequest request;
  request.set_study_instance_uid(options.study);
  for (const std::string& model : options.models) *request.add_models() = ParseModel(model);
  v1::PlanStudyResponse response;
  grpc::ClientContext call;
  if (const grpc::Status status = stub->PlanStudy(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  Print(response, options.json);
  return kDone;
}

// The models that are named, or every good one.
absl::StatusOr<std::vector<const models::Model*>> Wanted(const models::Repository& repository,
                                                         const std::vector<std::string>& names) {
  std::vector<const models::Model*> wanted;
  for (const std::string& name : names) {
    const v1::ModelSelector selector = ParseModel(name);
    TS_ASSIGN_OR_RETURN(wanted.emplace_back(), repository.Find(selector.name(), selector.version()));
  }
  if (!names.empty()) return wanted;
  for (const models::Model& model : repository.models()) {
    if (model.good()) wanted.push_back(&model);
  }
  return wanted;
}

absl::StatusOr<v1::PlanStudyResponse> PlanFiles(const Options& options) {
  TS_ASSIGN_OR_RETURN(const models::Repository repository, models::Repository::Scan(options.repositories));
  TS_ASSIGN_OR_RETURN(const std::vector<const models::Model*> wanted, Wanted(repository, options.models));
  TS_ASSIGN_OR_RETURN(const std::vector<std::filesystem::path> files, RegularFiles(options.study));
  TS_ASSIGN_OR_RETURN(const std::unique_ptr<ipc::HelperPool> helpers, StartHelpers());
  TS_ASSIGN_OR_RETURN(const LocalStudies local, LocalStudies::Read(files, *helpers));
  for (const RefusedFile& refused : local.refused()) {
    std::fprintf(stderr, "refused: %s: %s\n", refused.file.c_str(), refused.code.c_str());
  }
  if (local.studies().size() != 1) {
    return base::Error(absl::StatusCode::kInvalidArgument, "NOT_ONE_STUDY",
                       absl::StrCat(local.studies().size()),
                       absl::StrCat("one study is needed, the files hold ", local.studies().size()));
  }
  v1::PlanStudyResponse response;
  for (const models::Model* model : wanted) {
    *response.add_runs() = dispatch::PlanLocally(*model, local.studies().front());
  }
  return response;
}

int Plan(const Options& options, const Context& context) {
  if (options.repositories.empty()) return PlanStored(options, context);
  const auto plan = PlanFiles(options);
  if (!plan.ok()) return Fail(plan.status());
  Print(*plan, options.json);
  return kDone;
}

}  // namespace

void AddPlan(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("plan", "What would run on a study, on which series, and why not on the others");
  verb->add_option("study", options->study,
                   "Study Instance UID of a study that the server has; with --models a file or folder")
      ->required();
  verb->add_option("--model", options->models,
                   "Only this model, NAME or NAME@VERSION, may be given several times");
  verb->add_option("--models", options->repositories,
                   "Model repository: plans without a server, by the headers of the files");
  verb->add_flag("--json", options->json, "protobuf's JSON mapping of PlanStudyResponse");
  verb->callback([options, &context] { context.exit_code = Plan(*options, context); });
}

}  // namespace tomoserve::tomoctl
