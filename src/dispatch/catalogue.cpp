#include "dispatch/catalogue.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "tomoserve/base/clock.h"
#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {

bool IsDemonstration(const models::Model& model) {
  return model.recipe.card().regulatory_status() == v1::REGULATORY_STATUS_DEMONSTRATION;
}

absl::StatusOr<std::unique_ptr<Catalogue>> Catalogue::Open(models::Repository repository,
                                                           store::JobStore& store) {
  std::unique_ptr<Catalogue> catalogue(new Catalogue(std::move(repository), store));
  for (const models::Model& model : catalogue->repository_.models()) {
    if (!model.good()) continue;
    TS_ASSIGN_OR_RETURN(const auto row, store.GetActivation(model.name, model.version));
    if (row) continue;
    v1::ActivationRecord record;
    record.set_stage(v1::ACTIVATION_STAGE_ACTIVE);
    record.set_by("configuration");
    const std::int64_t now_us = base::NowUs();
    record.mutable_at()->set_seconds(now_us / 1000000);
    record.mutable_at()->set_nanos(static_cast<std::int32_t>(now_us % 1000000) * 1000);
    TS_RETURN_IF_ERROR(store.SetActivation(model.name, model.version, record));
  }
  return catalogue;
}

absl::StatusOr<v1::ActivationRecord> Catalogue::Activation(const models::Model& model) const {
  TS_ASSIGN_OR_RETURN(auto row, store_.GetActivation(model.name, model.version));
  if (row) return *std::move(row);
  v1::ActivationRecord off;
  off.set_stage(v1::ACTIVATION_STAGE_OFF);
  return off;
}

absl::StatusOr<std::vector<const models::Model*>> Catalogue::Resolve(
    const google::protobuf::RepeatedPtrField<v1::ModelSelector>& selectors) const {
  std::vector<const models::Model*> wanted;
  const auto add = [&wanted](const models::Model* model) {
    if (std::find(wanted.begin(), wanted.end(), model) == wanted.end()) wanted.push_back(model);
  };
  for (const v1::ModelSelector& selector : selectors) {
    TS_ASSIGN_OR_RETURN(const models::Model* model, repository_.Find(selector.name(), selector.version()));
    TS_ASSIGN_OR_RETURN(const v1::ActivationRecord activation, Activation(*model));
    if (activation.stage() == v1::ACTIVATION_STAGE_RETIRED) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "MODEL_RETIRED", model->name,
                         "this version was retired and does not answer any more");
    }
    add(model);
  }
  if (!selectors.empty()) return wanted;

  // Versions of a name follow each other in ascending order: the last one that may answer stays.
  std::map<std::string, const models::Model*> highest;
  for (const models::Model& model : repository_.models()) {
    if (!model.good() || IsDemonstration(model)) continue;
    TS_ASSIGN_OR_RETURN(const v1::ActivationRecord activation, Activation(model));
    if (activation.stage() == v1::ACTIVATION_STAGE_ACTIVE ||
        activation.stage() == v1::ACTIVATION_STAGE_SHADOW) {
      highest[model.name] = &model;
    }
  }
  for (const auto& [name, model] : highest) add(model);
  return wanted;
}

absl::StatusOr<store::WantedModel> Catalogue::Want(const models::Model& model) const {
  TS_ASSIGN_OR_RETURN(const v1::ActivationRecord activation, Activation(model));
  return store::WantedModel{.name = model.name,
                            .version = model.version,
                            .model_digest = model.model_digest,
                            .recipe_digest = model.recipe_digest,
                            .stage = activation.stage()};
}

const models::Model* Catalogue::Find(std::string_view name, std::string_view version,
                                     std::string_view model_digest) const {
  const models::Model* copy = nullptr;
  for (const models::Model& model : repository_.models()) {
    if (!model.good() || model.model_digest != model_digest) continue;
    if (model.name == name && model.version == version) return &model;
    copy = &model;
  }
  return copy;
}

}  // namespace tomoserve::dispatch
