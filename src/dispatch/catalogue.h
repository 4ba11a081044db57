// The models that may run: the repository, and what the store's activation rows allow.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "tomoserve/dispatch/dispatcher.h"
#include "tomoserve/models/repository.h"
#include "tomoserve/store/job_store.h"
#include "tomoserve/v1/model_service.pb.h"
#include "tomoserve/v1/study.pb.h"

namespace tomoserve::dispatch {

// The activations live in the store. Thread-safe. What it points to stays valid as long as it lives: what an
// earlier reading of the folders had is kept.
class Catalogue {
 public:
  // Reads the folders. Gives each good version without a row in the store the row ACTIVE by "configuration".
  // Models with RegulatoryStatus DEMONSTRATION run by name only, whatever their row says. Errors: those of
  // Scan, of the store.
  static absl::StatusOr<std::unique_ptr<Catalogue>> Open(std::vector<std::string> folders,
                                                         store::JobStore& store);

  // As the folders were read last.
  const models::Repository& repository() const;

  // Reads the folders again, and digests every file: blocks. A version without a row, or with
  // other files than before, gets OFF by "reload": nothing answers because a folder appeared. After an error
  // nothing has changed.
  absl::StatusOr<Reloaded> Reload();

  // Models that a submission wants, each once. No selectors: of every name that is no demonstration the
  // highest ACTIVE version, and the highest SHADOW one above it. A name without a version: the highest ACTIVE
  // one, else SHADOW, else OFF; named ones run even where they are OFF. Errors: kNotFound UNKNOWN_MODEL or
  // UNKNOWN_VERSION, kFailedPrecondition MODEL_REFUSED (value: why the repository refused it) or
  // MODEL_RETIRED. The models of regions (Recipe.region) come after those that name them.
  absl::StatusOr<std::vector<const models::Model*>> Resolve(
      const google::protobuf::RepeatedPtrField<v1::ModelSelector>& selectors) const;

  // The version of this name that Resolve chooses where none is named; null where there is none.
  const models::Model* Preferred(std::string_view name) const;

  // As the store wants it, with the present stage.
  absl::StatusOr<store::WantedModel> Want(const models::Model& model) const;

  // Row of a version; stage OFF where it has none.
  absl::StatusOr<v1::ActivationRecord> Activation(const models::Model& model) const;

  // Sets what a version may do, by whom; the row before stays in its history. Errors: kNotFound
  // UNKNOWN_MODEL, UNKNOWN_VERSION; kFailedPrecondition MODEL_REFUSED; kInvalidArgument ACTIVATION_INVALID
  // (value: the field).
  absl::StatusOr<const models::Model*> SetActivation(const v1::SetActivationRequest& request);

  // The good version with this digest (the named one is preferred among equal copies), of the last reading or
  // else of an earlier one, or null.
  const models::Model* Find(std::string_view name, std::string_view version,
                            std::string_view model_digest) const;

 private:
  // Whether the version had other files or another recipe when it was last read.
  bool IsChanged(const models::Model& model) const;
  absl::StatusOr<Reloaded> Read(const v1::ActivationRecord& of_new_ones);
  std::vector<const models::Model*> WithRegions(std::vector<const models::Model*> wanted) const;
  absl::StatusOr<const models::Model*> Pick(const v1::ModelSelector& selector) const;

  Catalogue(std::vector<std::string> folders, store::JobStore& store)
      : folders_(std::move(folders)), store_(store) {}

  const std::vector<std::string> folders_;
  store::JobStore& store_;
  std::mutex reload_mutex_;  // one reload at a time
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<const models::Repository>> readings_;  // the last one counts; guarded by mutex_
};

// A good version with this digest in one reading, as Catalogue::Find prefers; null: there is none.
const models::Model* FindIn(const models::Repository& repository, std::string_view name,
                            std::string_view version, std::string_view model_digest);

// Whether the model's card says DEMONSTRATION.
bool IsDemonstration(const models::Model& model);

}  // namespace tomoserve::dispatch
