// Several imported models that become the parts of one (Network.parts).
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "models/import/draft.h"

namespace tomoserve::models::importer {

struct PartDraft {
  Draft draft;
  std::string source;              // file that it was read from, for errors
  std::vector<std::string> files;  // in the entry
};

// One draft of all. What the parts share is that of the first one and must be the same in all: inputs,
// spacing, orientation, crop, windows, mirroring and steps up to labels. Label values follow part after part;
// a name that several parts have gets its part's name in front of it ("organs: liver"). A part is called as
// its model, or by its file, without repetitions. Errors: IMPORT_MISMATCH (value: the field of the recipe;
// the text names both files), IMPORT_UNSUPPORTED (value: "decode") for detectors and for steps on labels of
// one part.
absl::StatusOr<Draft> DraftOfComposite(std::vector<PartDraft> parts);

}  // namespace tomoserve::models::importer
