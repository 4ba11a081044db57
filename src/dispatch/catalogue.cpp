#include "dispatch/catalogue.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "tomoserve/base/status.h"

namespace tomoserve::dispatch {
namespace {

constexpr std::size_t kLongestAuthor = 128;

// Without a time: the store says when.
v1::ActivationRecord MakeRecord(v1::ActivationStage stage, const std::string& by) {
  v1::ActivationRecord record;
  record.set_stage(stage);
  record.set_by(by);
  return record;
}

// Order in which versions are preferred where none is named.
int PlaceOf(v1::ActivationStage stage) {
  switch (stage) {
    case v1::ACTIVATION_STAGE_ACTIVE:
      return 0;
    case v1::ACTIVATION_STAGE_SHADOW:
      return 1;
    case v1::ACTIVATION_STAGE_RETIRED:
      return 3;
    default:
      return 2;
  }
}

// Good versions of `from` that `in` does not have with the same files and recipe.
std::vector<const models::Model*> Missing(const models::Repository& from, const models::Repository& in) {
  std::vector<const models::Model*> missing;
  for (const models::Model& model : from.models()) {
    if (!model.good()) continue;
    const bool there = std::any_of(in.models().begin(), in.models().end(), [&](const models::Model& other) {
      return other.good() && other.name == model.name && other.version == model.version &&
             other.model_digest == model.model_digest && other.recipe_digest == model.recipe_digest;
    });
    if (!there) missing.push_back(&model);
  }
  return missing;
}

absl::Status InvalidActivation(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "ACTIVATION_INVALID", field, text);
}

}  // namespace

bool IsDemonstration(const models::Model& model) {
  return model.recipe.card().regulatory_status() == v1::REGULATORY_STATUS_DEMONSTRATION;
}

absl::StatusOr<std::unique_ptr<Catalogue>> Catalogue::Open(std::vector<std::string> folders,
                                                           store::JobStore& store) {
  std::unique_ptr<Catalogue> catalogue(new Catalogue(std::move(folders), store));
  TS_RETURN_IF_ERROR(catalogue->Read(MakeRecord(v1::ACTIVATION_STAGE_ACTIVE, "configuration")).status());
  return catalogue;
}

const models::Repository& Catalogue::repository() const {
  const std::lock_guard lock(mutex_);
  return *readings_.back();
}

absl::StatusOr<Reloaded> Catalogue::Reload() { return Read(MakeRecord(v1::ACTIVATION_STAGE_OFF, "reload")); }

absl::StatusOr<Reloaded> Catalogue::Read(const v1::ActivationRecord& of_new_ones) {
  const std::lock_guard turn(reload_mutex_);
  TS_ASSIGN_OR_RETURN(models::Repository scanned, models::Repository::Scan(folders_));
  auto reading = std::make_unique<const models::Repository>(std::move(scanned));
  for (const models::Model& model : reading->models()) {
    if (!model.good()) continue;
    TS_ASSIGN_OR_RETURN(const auto row, store_.GetActivation(model.name, model.version));
    // What somebody has activated were other files.
    if (row && !IsChanged(model)) continue;
    TS_RETURN_IF_ERROR(store_.SetActivation(model.name, model.version, of_new_ones));
  }
  Reloaded reloaded;
  const std::lock_guard lock(mutex_);
  const models::Repository none;
  const models::Repository& before = readings_.empty() ? none : *readings_.back();
  reloaded.added = Missing(*reading, before);
  reloaded.removed = Missing(before, *reading);
  readings_.push_back(std::move(reading));
  return reloaded;
}

bool Catalogue::IsChanged(const models::Model& model) const {
  const std::lock_guard lock(mutex_);
  // The newest reading that had it says what it was.
  for (auto reading = readings_.rbegin(); reading != readings_.rend(); ++reading) {
    for (const models::Model& before : (*reading)->models()) {
      if (before.good() && before.name == model.name && before.version == model.version)
        return before.model_digest != model.model_digest || before.recipe_digest != model.recipe_digest;
    }
  }
  return false;
}

absl::StatusOr<v1::ActivationRecord> Catalogue::Activation(const models::Model& model) const {
  TS_ASSIGN_OR_RETURN(auto row, store_.GetActivation(model.name, model.version));
  if (row) return *std::move(row);
  v1::ActivationRecord off;
  off.set_stage(v1::ACTIVATION_STAGE_OFF);
  return off;
}

absl::StatusOr<const models::Model*> Catalogue::SetActivation(const v1::SetActivationRequest& request) {
  const bool known_stage =
      request.stage() != v1::ACTIVATION_STAGE_UNSPECIFIED && v1::ActivationStage_IsValid(request.stage());
  if (!known_stage) return InvalidActivation("stage", "the stage is not one of OFF, SHADOW, ACTIVE, RETIRED");
  if (request.version().empty()) return InvalidActivation("version", "one version has to be named");
  const std::string& by = request.by();
  const bool printable =
      std::all_of(by.begin(), by.end(), [](unsigned char c) { return c >= 0x20 && c != 0x7F; });
  if (by.find_first_not_of(' ') == std::string::npos || by.size() > kLongestAuthor || !printable) {
    return InvalidActivation("by", "who changes it has to be named, in 1 to 128 bytes");
  }
  TS_ASSIGN_OR_RETURN(const models::Model* model, repository().Find(request.name(), request.version()));
  TS_RETURN_IF_ERROR(store_.SetActivation(model->name, model->version, MakeRecord(request.stage(), by)));
  return model;
}

absl::StatusOr<const models::Model*> Catalogue::Pick(const v1::ModelSelector& selector) const {
  TS_ASSIGN_OR_RETURN(const models::Model* model, repository().Find(selector.name(), selector.version()));
  TS_ASSIGN_OR_RETURN(v1::ActivationRecord activation, Activation(*model));
  if (selector.version().empty()) {
    // Ascending versions: of the best stage the last one.
    int best = PlaceOf(activation.stage());
    for (const models::Model& other : repository().models()) {
      if (other.name != selector.name() || !other.good()) continue;
      TS_ASSIGN_OR_RETURN(const v1::ActivationRecord stage, Activation(other));
      if (PlaceOf(stage.stage()) > best) continue;
      best = PlaceOf(stage.stage());
      model = &other;
      activation = stage;
    }
  }
  if (activation.stage() == v1::ACTIVATION_STAGE_RETIRED) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "MODEL_RETIRED", model->name,
                       "this version was retired and does not answer any more");
  }
  return model;
}

absl::StatusOr<std::vector<const models::Model*>> Catalogue::Resolve(
    const google::protobuf::RepeatedPtrField<v1::ModelSelector>& selectors) const {
  std::vector<const models::Model*> wanted;
  const auto add = [&wanted](const models::Model* model) {
    if (std::find(wanted.begin(), wanted.end(), model) == wanted.end()) wanted.push_back(model);
  };
  for (const v1::ModelSelector& selector : selectors) {
    TS_ASSIGN_OR_RETURN(const models::Model* model, Pick(selector));
    add(model);
  }
  if (!selectors.empty()) return WithRegions(std::move(wanted));

  // Versions of a name follow each other in ascending order. A newer one in the shadow runs beside the one
  // that answers, and does not take its place.
  struct Highest {
    const models::Model* active = nullptr;
    const models::Model* shadow = nullptr;
  };
  std::map<std::string, Highest> highest;
  for (const models::Model& model : repository().models()) {
    if (!model.good() || IsDemonstration(model)) continue;
    TS_ASSIGN_OR_RETURN(const v1::ActivationRecord activation, Activation(model));
    if (activation.stage() == v1::ACTIVATION_STAGE_ACTIVE) highest[model.name] = {&model, nullptr};
    if (activation.stage() == v1::ACTIVATION_STAGE_SHADOW) highest[model.name].shadow = &model;
  }
  for (const auto& [name, versions] : highest) {
    if (versions.active != nullptr) add(versions.active);
    if (versions.shadow != nullptr) add(versions.shadow);
  }
  return WithRegions(std::move(wanted));
}

std::vector<const models::Model*> Catalogue::WithRegions(std::vector<const models::Model*> wanted) const {
  const std::vector<const models::Model*> named = wanted;
  for (const models::Model* model : named) {
    if (!model->recipe.has_region()) continue;
    const std::string& name = model->recipe.region().model();
    const bool there = std::any_of(wanted.begin(), wanted.end(),
                                   [&](const models::Model* other) { return other->name == name; });
    if (there) continue;
    // Where no version may run, the cascade is INCONCLUSIVE and says so.
    if (const models::Model* region = Preferred(name); region != nullptr) wanted.push_back(region);
  }
  return wanted;
}

const models::Model* Catalogue::Preferred(std::string_view name) const {
  v1::ModelSelector selector;
  selector.set_name(std::string(name));
  const auto model = Pick(selector);
  return model.ok() ? *model : nullptr;
}

absl::StatusOr<store::WantedModel> Catalogue::Want(const models::Model& model) const {
  TS_ASSIGN_OR_RETURN(const v1::ActivationRecord activation, Activation(model));
  return store::WantedModel{.name = model.name,
                            .version = model.version,
                            .model_digest = model.model_digest,
                            .recipe_digest = model.recipe_digest,
                            .stage = activation.stage()};
}

const models::Model* FindIn(const models::Repository& repository, std::string_view name,
                            std::string_view version, std::string_view model_digest) {
  const models::Model* copy = nullptr;
  for (const models::Model& model : repository.models()) {
    if (!model.good() || model.model_digest != model_digest) continue;
    if (model.name == name && model.version == version) return &model;
    copy = &model;
  }
  return copy;
}

const models::Model* Catalogue::Find(std::string_view name, std::string_view version,
                                     std::string_view model_digest) const {
  const std::lock_guard lock(mutex_);
  for (auto reading = readings_.rbegin(); reading != readings_.rend(); ++reading) {
    if (const models::Model* model = FindIn(**reading, name, version, model_digest); model != nullptr)
      return model;
  }
  return nullptr;
}

}  // namespace tomoserve::dispatch
