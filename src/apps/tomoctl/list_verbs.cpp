// tomoctl flags, models: what the server has.
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/client.h"
#include "apps/tomoctl/verbs.h"
#include "tomoserve/v1/model_service.grpc.pb.h"
#include "tomoserve/v1/worklist_service.grpc.pb.h"

namespace tomoserve::tomoctl {
namespace {

int Flags(bool json, const Context& context) {
  const auto stub = v1::WorklistService::NewStub(Connect(context.server));
  v1::ListFlagsRequest request;
  v1::ListFlagsResponse all;
  do {
    v1::ListFlagsResponse page;
    grpc::ClientContext call;
    if (const grpc::Status status = stub->ListFlags(&call, request, &page); !status.ok()) {
      return Report(status, context.server);
    }
    request.set_page_token(page.next_page_token());
    all.mutable_flags()->MergeFrom(page.flags());
    all.set_cursor(page.cursor());
  } while (!request.page_token().empty());
  if (json) {
    PrintJson(all);
    return kDone;
  }
  std::printf("%-8s %-28s %8s  %-24s %-16s %s\n", "priority", "flag", "findings", "model", "accession",
              "study");
  for (const v1::FlagEntry& entry : all.flags()) {
    v1::Run run;
    run.set_state(entry.run_state());
    *run.mutable_flag() = entry.flag();
    if (entry.has_failure()) *run.mutable_failure() = entry.failure();
    const std::string accession =
        entry.study().orders().empty() ? "" : entry.study().orders(0).accession_number();
    std::printf("%-8s %-28s %8u  %-24s %-16s %s\n",
                WithoutPrefix(v1::Priority_Name(entry.priority()), "PRIORITY_").c_str(),
                Describe(run).c_str(), entry.findings(),
                absl::StrCat(entry.model(), " ", entry.version()).c_str(), accession.c_str(),
                entry.study().study_instance_uid().c_str());
  }
  return kDone;
}

int Models(bool json, const Context& context) {
  const auto stub = v1::ModelService::NewStub(Connect(context.server));
  v1::ListModelsResponse response;
  grpc::ClientContext call;
  if (const grpc::Status status = stub->ListModels(&call, {}, &response); !status.ok()) {
    return Report(status, context.server);
  }
  if (json) {
    PrintJson(response);
    return kDone;
  }
  for (const v1::Model& model : response.models()) {
    std::printf("%s %s: ", model.name().c_str(), model.version().c_str());
    if (model.has_refused()) {
      std::printf("REFUSED %s(%s): %s\n", model.refused().code().c_str(), model.refused().value().c_str(),
                  model.refused().text().c_str());
      continue;
    }
    std::printf(
        "%s, %s, %s\n", model.recipe().title().c_str(),
        WithoutPrefix(v1::RegulatoryStatus_Name(model.recipe().card().regulatory_status()),
                      "REGULATORY_STATUS_")
            .c_str(),
        WithoutPrefix(v1::ActivationStage_Name(model.activation().stage()), "ACTIVATION_STAGE_").c_str());
    for (const v1::DeviceReadiness& device : model.devices()) {
      std::printf("  %s: %s", device.device().c_str(),
                  WithoutPrefix(v1::ModelReadiness_Name(device.readiness()), "MODEL_READINESS_").c_str());
      if (device.readiness() == v1::MODEL_READINESS_WARM)
        std::printf(", %.1f ms a window", device.ms_per_window());
      if (device.buckets_size() > 1)
        std::printf(", proved up to %u in a batch", device.buckets(device.buckets_size() - 1));
      if (device.has_reason())
        std::printf(", %s: %s", device.reason().code().c_str(), device.reason().text().c_str());
      std::printf("\n");
    }
  }
  return kDone;
}

void AddListVerb(CLI::App& app, Context& context, const char* name, const char* help,
                 int (*run)(bool json, const Context&)) {
  CLI::App* verb = app.add_subcommand(name, help);
  const auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "protobuf's JSON mapping");
  verb->callback([json, &context, run] { context.exit_code = run(*json, context); });
}

}  // namespace

void AddFlags(CLI::App& app, Context& context) {
  AddListVerb(app, context, "flags", "The worklist's flags, most urgent first", Flags);
}

void AddModels(CLI::App& app, Context& context) {
  AddListVerb(app, context, "models", "Models of the repository and whether they are ready", Models);
}

}  // namespace tomoserve::tomoctl
