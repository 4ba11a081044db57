// The files of a known answer: checked as the repository will check them, then written.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tomoserve::tomoctl {

struct KnownAnswerFile {
  std::string name;   // in the version's folder
  std::string bytes;  // of the whole file
};

// Adds `block` to the end of the version's recipe.textproto, and the files that it names. Nothing in the
// folder changes before all of it was found good; the recipe is replaced last, so that the version is at any
// time the old one or the new one. Errors: those of models::ParseRecipe (the recipe with the block) and
// models::ReadKnownCase, FILE_MISSING (value: a file that the block names and nobody gives), FILE_TOO_LARGE
// (value: the file), OUTPUT (value: the path).
absl::Status AddKnownAnswer(const std::filesystem::path& version, const std::string& block,
                            const std::vector<KnownAnswerFile>& files);

}  // namespace tomoserve::tomoctl
