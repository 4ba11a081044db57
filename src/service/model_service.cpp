#include "service/services.h"
#include "service/unary.h"
#include "tomoserve/base/status.h"

namespace tomoserve::service {
namespace {

void Fill(const dispatch::ModelStatus& status, v1::Model& model) {
  model.set_name(status.model->name);
  model.set_version(status.model->version);
  if (status.model->good()) {
    model.set_model_digest(status.model->model_digest);
    model.set_recipe_digest(status.model->recipe_digest);
    *model.mutable_recipe() = status.model->recipe;
  } else {
    *model.mutable_refused() = status.model->refused;
  }
  *model.mutable_activation() = status.activation;
  model.mutable_devices()->Assign(status.devices.begin(), status.devices.end());
}

}  // namespace

grpc::ServerUnaryReactor* ModelServiceImpl::ListModels(grpc::CallbackServerContext* context,
                                                       const v1::ListModelsRequest*,
                                                       v1::ListModelsResponse* response) {
  return OnPool(pool_, context, [=, this] {
    for (const dispatch::ModelStatus& status : dispatcher_.Models()) Fill(status, *response->add_models());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ModelServiceImpl::GetModel(grpc::CallbackServerContext* context,
                                                     const v1::GetModelRequest* request,
                                                     v1::GetModelResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    // Models are listed by name, then version: the last match is the highest version.
    bool name_known = false;
    for (const dispatch::ModelStatus& status : dispatcher_.Models()) {
      if (status.model->name != request->name()) continue;
      name_known = true;
      if (request->version().empty() || request->version() == status.model->version) {
        response->clear_model();
        Fill(status, *response->mutable_model());
      }
    }
    if (response->has_model()) {
      TS_ASSIGN_OR_RETURN(const auto history,
                          dispatcher_.ActivationHistory(request->name(), response->model().version()));
      response->mutable_history()->Assign(history.begin(), history.end());
      return absl::OkStatus();
    }
    return name_known ? base::Error(absl::StatusCode::kNotFound, "UNKNOWN_VERSION", request->version(),
                                    "the model has no such version")
                      : base::Error(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", request->name(),
                                    "no model of this name is in the repository");
  });
}

grpc::ServerUnaryReactor* ModelServiceImpl::SetActivation(grpc::CallbackServerContext* context,
                                                          const v1::SetActivationRequest* request,
                                                          v1::SetActivationResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(const dispatch::ModelStatus status, dispatcher_.SetActivation(*request));
    Fill(status, *response->mutable_model());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* ModelServiceImpl::ReloadModels(grpc::CallbackServerContext* context,
                                                         const v1::ReloadModelsRequest*,
                                                         v1::ReloadModelsResponse* response) {
  return OnPool(pool_, context, [=, this]() -> absl::Status {
    TS_ASSIGN_OR_RETURN(const dispatch::Reloaded reloaded, dispatcher_.ReloadModels());
    for (const models::Model* model : reloaded.added) response->add_added(model->name + "@" + model->version);
    for (const models::Model* model : reloaded.removed)
      response->add_removed(model->name + "@" + model->version);
    for (const dispatch::ModelStatus& status : dispatcher_.Models()) {
      if (!status.model->good()) Fill(status, *response->add_refused());
    }
    return absl::OkStatus();
  });
}

}  // namespace tomoserve::service
