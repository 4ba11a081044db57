#include "apps/tomoctl/known_answer_files.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr char kRecipeFile[] = "recipe.textproto";

absl::Status OutputFailed(const fs::path& path, const std::string& text) {
  return base::Error(absl::StatusCode::kInternal, "OUTPUT", path.string(), text);
}

fs::path TemporaryName(const fs::path& version, const std::string& name) {
  return version / absl::StrCat(".", name, ".new");
}

// What the repository will say of the version.
absl::Status Check(const std::string& recipe_text, const std::vector<KnownAnswerFile>& files) {
  TS_ASSIGN_OR_RETURN(const v1::Recipe recipe, models::ParseRecipe(recipe_text));
  std::vector<std::string> contents;
  for (const std::string& name : models::KnownAnswerFiles(recipe)) {
    const auto file = std::find_if(files.begin(), files.end(),
                                   [&](const KnownAnswerFile& given) { return given.name == name; });
    if (file == files.end()) {
      return base::Error(absl::StatusCode::kInvalidArgument, "FILE_MISSING", name,
                         "the known answer names a file that is not there");
    }
    if (file->bytes.size() > models::kMaxKnownAnswerBytes) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_TOO_LARGE", name,
                         absl::StrCat("the file would have ", file->bytes.size(), " bytes, at most ",
                                      models::kMaxKnownAnswerBytes, " will do: take a smaller phantom"));
    }
    contents.push_back(file->bytes);
  }
  return models::ReadKnownCase(recipe, contents).status();
}

absl::Status Write(const fs::path& version, const std::vector<KnownAnswerFile>& files) {
  for (const KnownAnswerFile& file : files) {
    const fs::path path = TemporaryName(version, file.name);
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(file.bytes.data(), static_cast<std::streamsize>(file.bytes.size()));
    if (!out.flush()) return OutputFailed(path, absl::StrCat("cannot write to ", path.string()));
  }
  for (const KnownAnswerFile& file : files) {
    std::error_code error;
    fs::rename(TemporaryName(version, file.name), version / file.name, error);
    if (error) return OutputFailed(version / file.name, error.message());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status AddKnownAnswer(const fs::path& version, const std::string& block,
                            const std::vector<KnownAnswerFile>& files) {
  std::ifstream recipe(version / kRecipeFile, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(recipe), {}};
  absl::StrAppend(&text, text.empty() || text.back() == '\n' ? "" : "\n", block);
  TS_RETURN_IF_ERROR(Check(text, files));
  std::vector<KnownAnswerFile> all = files;
  all.push_back({kRecipeFile, std::move(text)});
  const absl::Status status = Write(version, all);
  if (status.ok()) return status;
  for (const KnownAnswerFile& file : all) {
    std::error_code ignored;
    fs::remove(TemporaryName(version, file.name), ignored);
  }
  return status;
}

}  // namespace tomoserve::tomoctl
