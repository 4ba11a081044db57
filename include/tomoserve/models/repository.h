// The model repository: FOLDER/<name>/<version>/{recipe.textproto, *.ts, card.md}. The front scans it,
// digests it, and hands descriptors to workers; it never loads a network.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/v1/finding.pb.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// One version. Immutable after the scan.
struct Model {
  std::string name;
  std::string version;
  std::string folder;
  // Good entries only:
  v1::Recipe recipe;
  std::string model_digest;              // over the digests of all its files and the recipe's, hex
  std::string recipe_digest;             // of recipe.textproto's bytes, hex
  std::vector<std::string> file_sha256;  // of the files that OpenFiles opens, in its order
  // Why the entry is refused; empty code: good. Codes: RECIPE_SYNTAX, RECIPE_INVALID, RECIPE_UNSUPPORTED,
  // FILE_MISSING, FILE_UNREADABLE, FILE_NOT_REGULAR, FILE_EMPTY, FILE_TOO_LARGE (value: the file),
  // NAME_INVALID (the name is shown with '?' for what it may not hold), VERSION_MISSING, FOLDER_UNREADABLE,
  // DUPLICATE_MODEL. RECIPE_INVALID with region.model or region.labels[i] also stands for a cascade whose
  // other model, in its highest good version, is not there or cannot give the region.
  v1::Reason refused;
  bool good() const { return refused.code().empty(); }
};

// Thread-safe once made.
class Repository {
 public:
  // Scans each folder; plain files beside the model folders and names with a leading dot are not looked at. A
  // bad entry is listed with its reason and hurts nobody else; an unreadable folder is an error (kNotFound
  // MODELS_FOLDER). The same name and version in two folders: the second is refused DUPLICATE_MODEL. Names of
  // models, versions and files are 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'. Files may be links; what they
  // lead to must be regular files.
  static absl::StatusOr<Repository> Scan(const std::vector<std::string>& folders);

  const std::vector<Model>& models() const { return models_; }  // by name, then version (numeric aware)
  // Version empty: the highest good one. Errors: kNotFound UNKNOWN_MODEL / UNKNOWN_VERSION,
  // kFailedPrecondition MODEL_REFUSED (value: the reason code).
  absl::StatusOr<const Model*> Find(std::string_view name, std::string_view version) const;
  // Read-only descriptors of the network files, as NetworkFiles orders them, then of the known answer's
  // (models/known_answer.h). The worker hashes them again. Errors:
  // kNotFound FILE_MISSING, kFailedPrecondition FILE_UNREADABLE, FILE_NOT_REGULAR, FILE_EMPTY (value: the
  // file).
  static absl::StatusOr<std::vector<base::UniqueFd>> OpenFiles(const Model& model);

 private:
  std::vector<Model> models_;
};

}  // namespace tomoserve::models
