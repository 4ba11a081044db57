// What is known of a model while it is imported.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/json.h"
#include "tomoserve/models/import.h"
#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models::importer {

// For the card, in the author's words; empty where the bundle does not say.
struct About {
  std::string name;
  std::string version;
  std::string kind;  // "MONAI bundle" or "nnU-Net v2"
  std::string description;
  std::string intended_use;
  std::string authors;
  std::string copyright;
  std::string license;
  std::string source;
  std::vector<std::string> references;
};

struct Draft {
  v1::Recipe recipe;
  About about;
  std::string suggested_name;
  std::vector<std::string> modalities;  // of every input, whatever the bundle says; empty: as it says
  // What the importer decided where the bundle is silent, or changed: for the recipe's limitations and the
  // card.
  std::vector<std::string> notes;
  // For whoever reads the recipe: lines at its top.
  std::vector<std::string> remarks;
};

// A name for a folder: lower case, everything else than letters, digits, '_', '.' and '-' becomes '_'.
std::string FolderName(std::string_view text);

// One output of the network: label value and name.
struct NamedLabel {
  std::uint32_t value = 0;
  std::string name;
};

// Fills labels (coded where the name is well known), findings, flags and coverage of the draft's recipe, with
// a note for flags that nobody has stated.
void AddLabels(const std::vector<NamedLabel>& labels, bool boxes, Draft* draft);

// Title and card of the recipe from `about`, with the notes as limitations.
void AddCard(const About& about, const std::vector<std::string>& notes, v1::Recipe* recipe);

// The recipe as text for people: short comments, what fits on a line stands on it. `heading`: one line each.
std::string RecipeText(const v1::Recipe& recipe, const std::vector<std::string>& heading);
std::string CardText(const std::string& name, const About& about, const std::vector<std::string>& notes,
                     const std::vector<std::string>& files);

// Modality values for a word that a bundle uses ("MRI"); empty where it is not known.
std::vector<std::string> ModalitiesOf(std::string_view word);
// The input's modalities: the draft's own, else what the bundle states, else all. Notes what is unknown or
// replaced, once.
void AddModalities(const std::vector<std::string>& stated, v1::Input* input, Draft* draft);
// Without repetitions. Error: IMPORT_INVALID with "--modality".
absl::StatusOr<std::vector<std::string>> CheckModalities(const std::vector<std::string>& modalities);

// Kinds of MR series that names of channels tell.
enum class Sequence { kUnknown, kT1, kT1Contrast, kT2, kFlair, kAdc, kDwi, kSwi, kPd };
// Of a whole name such as "T1-Gd" or "MRI_T2w"; kUnknown where it says more or less than that.
Sequence SequenceOf(std::string_view name);
// Where the recipe has several inputs: narrows each to the series that its channel's name tells, by
// phase_texts and contrast, and refuses where tags are missing. Notes what the owner has to state.
void TellApart(const std::vector<std::string>& names, Draft* draft);

// From the extra files of one archive. Errors: IMPORT_INVALID, IMPORT_UNSUPPORTED.
absl::StatusOr<Draft> DraftOfMonai(const Json& inference, const Json& metadata, const ImportOptions& options);
// `postprocessing`: null where the archive has none.
absl::StatusOr<Draft> DraftOfNnunet(const Json& plans, const Json& dataset, const Json& checkpoint,
                                    const Json& postprocessing, const ImportOptions& options);

// The entry as the files describe it, before the recipe is validated.
absl::StatusOr<ImportedModel> Compose(const std::vector<std::string>& files, const ImportOptions& options);

}  // namespace tomoserve::models::importer
