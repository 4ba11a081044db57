// Importing models: a repository entry from TorchScript files that carry their own description, MONAI's
// inference.json and metadata.json or nnU-Net's plans.json, dataset.json and checkpoint.json, as extra files.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

struct ImportOptions {
  std::string name;           // of the entry; empty: from the bundle
  bool mirroring = true;      // nnU-Net's test-time mirroring, where the checkpoint allows it
  std::string monai_version;  // whose rules hold, e.g. "1.6.1"; empty: the bundle's own
  // Of every input, CT, MR or PT, whatever the bundle says; empty: as it says.
  std::vector<std::string> modalities;
  // Files whose descriptions differ are the parts of one model (Network.parts); those that agree in
  // everything but the fold are one part's ensemble. Else all files are one ensemble.
  bool composite = false;
};

// An entry that is not written yet.
struct ImportedModel {
  std::string name;
  v1::Recipe recipe;
  std::string recipe_text;         // recipe.textproto, parses to `recipe`
  std::string card;                // card.md
  std::vector<std::string> notes;  // what the owner has to know or to check, a sentence each
  std::vector<std::pair<std::string, std::string>> files;  // name in the entry, path of the source
};

// Reads the files' descriptions; several files are an ensemble and must agree, or the parts of a composite,
// which must agree in what parts share. The recipe is valid and runs. Nothing is skipped: what a recipe
// cannot say is refused. Errors: IMPORT_ARCHIVE (value: the file), IMPORT_INVALID and IMPORT_UNSUPPORTED
// (value: the place in the JSON, e.g. "preprocessing.transforms[3].keys"), IMPORT_MISMATCH (value: what
// differs between the files), NAME_INVALID, and the codes of ParseRecipe.
absl::StatusOr<ImportedModel> ReadModel(const std::vector<std::string>& files, const ImportOptions& options);

// Makes FOLDER/<name>/1 with the recipe, the network files and the card; all of it or nothing. Gives the
// entry's folder. Errors: MODEL_EXISTS (an entry is never changed in place), WRITE_FAILED.
absl::StatusOr<std::string> WriteModel(const ImportedModel& model, std::string_view folder);

}  // namespace tomoserve::models
