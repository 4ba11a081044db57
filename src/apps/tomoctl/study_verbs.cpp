// tomoctl watch, cancel, close, rerun: one stored study.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/v1/study_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

struct Options {
  std::string study_uid;
  std::string submission;
  std::vector<std::string> models;
  bool json = false;
};

int Watch(const Options& options, const Context& context) {
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  v1::WatchStudyRequest request;
  request.set_study_instance_uid(options.study_uid);
  grpc::ClientContext call;
  const auto reader = stub->WatchStudy(&call, request);
  v1::WatchStudyResponse response;
  v1::Study study;
  while (reader->Read(&response)) {
    study = response.study();
    if (options.json) {
      PrintJson(study);
      continue;
    }
    for (const v1::Run& run : study.runs()) {
      std::fprintf(stderr, "%s %s: %s %.0f %%\n", run.model().c_str(), run.version().c_str(),
                   Describe(run).c_str(), run.state() == v1::RUN_STATE_DONE ? 100.0 : run.progress() * 100);
    }
  }
  if (const grpc::Status status = reader->Finish(); !status.ok()) return Report(status, context.server);
  if (!options.json) {
    for (const v1::Run& run : study.runs()) PrintRun(run);
  }
  return study.summary().failed() > 0 ? kFailed : kDone;
}

int Cancel(const Options& options, const Context& context) {
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  v1::CancelStudyRequest request;
  request.set_study_instance_uid(options.study_uid);
  request.set_submission_id(options.submission);
  v1::CancelStudyResponse response;
  grpc::ClientContext call;
  if (const grpc::Status status = stub->CancelStudy(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
  } else {
    std::printf("%d runs cancelled\n", response.cancelled_run_ids_size());
  }
  return kDone;
}

int Close(const Options& options, const Context& context) {
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  v1::CloseStudyRequest request;
  request.set_study_instance_uid(options.study_uid);
  v1::CloseStudyResponse response;
  grpc::ClientContext call;
  if (const grpc::Status status = stub->CloseStudy(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
  } else {
    std::printf("%u instances, %d runs\n", response.study().instances(), response.study().runs_size());
  }
  return kDone;
}

int Rerun(const Options& options, const Context& context) {
  const auto stub = v1::StudyService::NewStub(Connect(context.server));
  v1::RerunStudyRequest request;
  request.set_study_instance_uid(options.study_uid);
  for (const std::string& model : options.models) *request.add_models() = ParseModel(model);
  v1::RerunStudyResponse response;
  grpc::ClientContext call;
  if (const grpc::Status status = stub->RerunStudy(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
  } else {
    for (const std::string& run_id : response.run_ids()) std::printf("%s\n", run_id.c_str());
  }
  return kDone;
}

CLI::App* AddStudyVerb(CLI::App& app, Context& context, const char* name, const char* help,
                       int (*run)(const Options&, const Context&), const std::shared_ptr<Options>& options) {
  CLI::App* verb = app.add_subcommand(name, help);
  verb->add_option("study", options->study_uid, "Study Instance UID")->required();
  verb->add_flag("--json", options->json, "protobuf's JSON mapping");
  verb->callback([options, &context, run] { context.exit_code = run(*options, context); });
  return verb;
}

}  // namespace

void AddWatch(CLI::App& app, Context& context) {
  AddStudyVerb(app, context, "watch", "Follow a study until all its runs are final", Watch,
               std::make_shared<Options>());
}

void AddClose(CLI::App& app, Context& context) {
  AddStudyVerb(app, context, "close", "Say that everything of a study was sent", Close,
               std::make_shared<Options>());
}

void AddRerun(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  AddStudyVerb(app, context, "rerun", "Run again on what is stored, also what is held", Rerun, options)
      ->add_option("--model", options->models, "Only this model, may be given several times");
}

void AddCancel(CLI::App& app, Context& context) {
  const auto options = std::make_shared<Options>();
  AddStudyVerb(app, context, "cancel", "Withdraw the wish for a study's runs", Cancel, options)
      ->add_option("--submission", options->submission, "Only this submission's wish");
}

}  // namespace tomoserve::tomoctl
