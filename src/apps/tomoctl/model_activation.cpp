// tomoctl model activate, history: what a version of a model may do, and who said so; reload: which there
// are.
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "apps/tomoctl/client.h"
#include "apps/tomoctl/verbs.h"
#include "google/protobuf/util/time_util.h"
#include "tomoserve/v1/model_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

struct Options {
  std::string model;
  std::string by;
  v1::ActivationStage stage = v1::ACTIVATION_STAGE_UNSPECIFIED;
  bool json = false;
};

std::string Name(v1::ActivationStage stage) {
  return WithoutPrefix(v1::ActivationStage_Name(stage), "ACTIVATION_STAGE_");
}

void Print(const v1::ActivationRecord& record) {
  std::printf("%s  %-8s  %s\n", google::protobuf::util::TimeUtil::ToString(record.at()).c_str(),
              Name(record.stage()).c_str(), record.by().c_str());
}

int Activate(const Options& options, const Context& context) {
  const v1::ModelSelector model = ParseModel(options.model);
  v1::SetActivationRequest request;
  request.set_name(model.name());
  request.set_version(model.version());
  request.set_stage(options.stage);
  request.set_by(options.by);
  v1::SetActivationResponse response;
  grpc::ClientContext call;
  const auto stub = v1::ModelService::NewStub(Connect(context.server));
  if (const grpc::Status status = stub->SetActivation(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
  } else {
    Print(response.model().activation());
  }
  return kDone;
}

int Reload(const Options& options, const Context& context) {
  v1::ReloadModelsResponse response;
  grpc::ClientContext call;
  const auto stub = v1::ModelService::NewStub(Connect(context.server));
  if (const grpc::Status status = stub->ReloadModels(&call, {}, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
    return kDone;
  }
  for (const std::string& version : response.removed()) std::printf("removed  %s\n", version.c_str());
  for (const std::string& version : response.added()) std::printf("added    %s\n", version.c_str());
  for (const v1::Model& model : response.refused()) {
    std::printf("refused  %s@%s: %s(%s): %s\n", model.name().c_str(), model.version().c_str(),
                model.refused().code().c_str(), model.refused().value().c_str(),
                model.refused().text().c_str());
  }
  if (response.removed().empty() && response.added().empty()) std::printf("nothing new\n");
  return kDone;
}

int History(const Options& options, const Context& context) {
  const v1::ModelSelector model = ParseModel(options.model);
  v1::GetModelRequest request;
  request.set_name(model.name());
  request.set_version(model.version());
  v1::GetModelResponse response;
  grpc::ClientContext call;
  const auto stub = v1::ModelService::NewStub(Connect(context.server));
  if (const grpc::Status status = stub->GetModel(&call, request, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (options.json) {
    PrintJson(response);
  } else {
    for (const v1::ActivationRecord& record : response.history()) Print(record);
  }
  return kDone;
}

}  // namespace

void AddModelActivation(CLI::App& model, Context& context) {
  const auto options = std::make_shared<Options>();
  CLI::App* activate =
      model.add_subcommand("activate", "Set what a version may do on the server, from now on");
  activate->add_option("model", options->model, "NAME@VERSION")->required();
  const std::map<std::string, v1::ActivationStage> stages{{"off", v1::ACTIVATION_STAGE_OFF},
                                                          {"shadow", v1::ACTIVATION_STAGE_SHADOW},
                                                          {"active", v1::ACTIVATION_STAGE_ACTIVE},
                                                          {"retired", v1::ACTIVATION_STAGE_RETIRED}};
  activate->add_option("stage", options->stage, "off, shadow, active or retired")
      ->required()
      ->transform(CLI::CheckedTransformer(stages, CLI::ignore_case));
  activate->add_option("--by", options->by, "Who says so; kept with the change")->required();
  activate->add_flag("--json", options->json, "protobuf's JSON mapping");
  activate->callback([options, &context] { context.exit_code = Activate(*options, context); });

  CLI::App* reload = model.add_subcommand("reload", "Let the server read its model folders again");
  reload->add_flag("--json", options->json, "protobuf's JSON mapping");
  reload->callback([options, &context] { context.exit_code = Reload(*options, context); });

  CLI::App* history = model.add_subcommand("history", "Every stage that a version had, oldest first");
  history->add_option("model", options->model, "NAME or NAME@VERSION")->required();
  history->add_flag("--json", options->json, "protobuf's JSON mapping");
  history->callback([options, &context] { context.exit_code = History(*options, context); });
}

}  // namespace tomoserve::tomoctl
