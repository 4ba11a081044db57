#include "tomoserve/models/repository.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "models/names.h"
#include "models/recipe_checks.h"
#include "tomoserve/base/digest.h"
#include "tomoserve/base/reason.h"
#include "tomoserve/base/status.h"
#include "tomoserve/base/strings.h"
#include "tomoserve/models/known_answer.h"
#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/region.h"

namespace tomoserve::models {
namespace {

namespace fs = std::filesystem;

constexpr char kRecipeFile[] = "recipe.textproto";
constexpr std::size_t kMaxRecipeBytes = 32U << 20;

// What is shown of a name that is none: at most 64 characters, everything else than a name's as '?'. Folder
// names are bytes; messages need UTF-8.
std::string Printable(std::string name) {
  name.resize(std::min<std::size_t>(name.size(), 64));
  for (char& c : name) {
    if (c != '.' && !IsName(std::string_view(&c, 1))) c = '?';
  }
  return name;
}

// Names of the folders in `folder` (links to folders count), sorted; names with a leading dot are not looked
// at.
absl::StatusOr<std::vector<std::string>> Subfolders(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  while (!error && entries != fs::directory_iterator()) {
    std::string name = entries->path().filename().string();
    std::error_code ignored;
    if (name.front() != '.' && entries->is_directory(ignored)) names.push_back(std::move(name));
    entries.increment(error);
  }
  if (error) return base::Error(absl::StatusCode::kNotFound, "FOLDER_UNREADABLE", "", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// A read-only descriptor of a regular file; links are followed. `file` is the name that errors carry.
absl::StatusOr<base::UniqueFd> OpenRegular(const fs::path& path, std::string_view file) {
  // O_NONBLOCK: a FIFO without a writer must not hold the scan.
  base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) {
    const int error = errno;
    const bool missing = error == ENOENT || error == ENOTDIR;
    return base::Error(missing ? absl::StatusCode::kNotFound : absl::StatusCode::kFailedPrecondition,
                       missing ? "FILE_MISSING" : "FILE_UNREADABLE", file,
                       absl::StrCat(base::ToAbsl(file), ": ", std::strerror(error)));
  }
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_NOT_REGULAR", file,
                       absl::StrCat(base::ToAbsl(file), " is not a regular file"));
  }
  if (info.st_size == 0) {
    return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_EMPTY", file,
                       absl::StrCat(base::ToAbsl(file), " is empty"));
  }
  return fd;
}

// All bytes of a regular file.
absl::StatusOr<std::string> ReadFile(const fs::path& path, const std::string& file, std::size_t most) {
  TS_ASSIGN_OR_RETURN(const base::UniqueFd fd, OpenRegular(path, file));
  std::string text;
  std::string buffer(1 << 16, '\0');
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_UNREADABLE", file,
                         absl::StrCat(file, ": ", std::strerror(errno)));
    }
    if (count == 0) return text;
    text.append(buffer, 0, static_cast<std::size_t>(count));
    if (text.size() > most) {
      return base::Error(absl::StatusCode::kFailedPrecondition, "FILE_TOO_LARGE", file,
                         absl::StrCat(file, " is larger than ", most, " bytes"));
    }
  }
}

// Reads, digests and checks the files of a known answer.
absl::Status LoadKnownAnswer(const fs::path& folder, Model* model, std::string* digests) {
  std::vector<std::string> files;
  for (const std::string& file : KnownAnswerFiles(model->recipe)) {
    TS_ASSIGN_OR_RETURN(std::string bytes, ReadFile(folder / file, file, kMaxKnownAnswerBytes));
    std::string digest = base::Sha256Hex(bytes);
    absl::StrAppend(digests, digest, "\n");
    model->file_sha256.push_back(std::move(digest));
    files.push_back(std::move(bytes));
  }
  return files.empty() ? absl::OkStatus() : ReadKnownCase(model->recipe, files).status();
}

// Reads and digests a version folder into `model`.
absl::Status Load(const fs::path& folder, Model* model) {
  TS_ASSIGN_OR_RETURN(const std::string text, ReadFile(folder / kRecipeFile, kRecipeFile, kMaxRecipeBytes));
  model->recipe_digest = base::Sha256Hex(text);
  TS_ASSIGN_OR_RETURN(model->recipe, ParseRecipe(text));
  std::string digests = absl::StrCat("tomoserve model 1\n", model->recipe_digest, "\n");
  for (const std::string& file : NetworkFiles(model->recipe)) {
    TS_ASSIGN_OR_RETURN(const base::UniqueFd fd, OpenRegular(folder / file, file));
    TS_ASSIGN_OR_RETURN(std::string digest, base::Sha256HexOfFile(fd.get()));
    absl::StrAppend(&digests, digest, "\n");
    model->file_sha256.push_back(std::move(digest));
  }
  TS_RETURN_IF_ERROR(LoadKnownAnswer(folder, model, &digests));
  model->model_digest = base::Sha256Hex(digests);
  return absl::OkStatus();
}

Model Refused(std::string name, std::string version, const fs::path& folder, v1::Reason reason) {
  Model model;
  model.name = std::move(name);
  model.version = std::move(version);
  model.folder = folder.string();
  model.refused = std::move(reason);
  return model;
}

Model ScanVersion(const fs::path& folder, const std::string& name, const std::string& version) {
  if (!IsName(version)) {
    return Refused(name, Printable(version), folder,
                   base::MakeReason("NAME_INVALID", Printable(version),
                                    "a version is 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'"));
  }
  Model model;
  model.name = name;
  model.version = version;
  model.folder = folder.string();
  if (const absl::Status status = Load(folder, &model); !status.ok()) {
    return Refused(name, version, folder, base::ReasonFrom(status));
  }
  return model;
}

// Adds every version of one model folder.
void ScanModel(const fs::path& folder, std::vector<Model>* models) {
  const std::string name = folder.filename().string();
  if (!IsName(name)) {
    models->push_back(
        Refused(Printable(name), "", folder,
                base::MakeReason("NAME_INVALID", Printable(name),
                                 "a model's name is 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'")));
    return;
  }
  const absl::StatusOr<std::vector<std::string>> versions = Subfolders(folder);
  if (!versions.ok()) {
    models->push_back(Refused(name, "", folder, base::ReasonFrom(versions.status())));
    return;
  }
  if (versions->empty()) {
    models->push_back(
        Refused(name, "", folder,
                base::MakeReason("VERSION_MISSING", "", "the model's folder holds no version folder")));
    return;
  }
  for (const std::string& version : *versions)
    models->push_back(ScanVersion(folder / version, name, version));
}

// The highest good version of each name is the last of its kind; `models` are sorted.
const Model* HighestGood(const std::vector<Model>& models, const std::string& name) {
  const auto found = std::find_if(models.rbegin(), models.rend(),
                                  [&name](const Model& model) { return model.name == name && model.good(); });
  return found == models.rend() ? nullptr : &*found;
}

// Refuses cascades whose other model cannot give the region. All are judged before any is refused, so that
// the answer does not hang on their order.
void RefuseCascades(std::vector<Model>* models) {
  std::vector<std::pair<Model*, v1::Reason>> refused;
  for (Model& model : *models) {
    if (!model.good() || !model.recipe.has_region()) continue;
    const v1::Region& region = model.recipe.region();
    const Model* source = HighestGood(*models, region.model());
    const absl::Status status =
        source == nullptr ? Invalid("region.model", absl::StrCat("no model ", region.model(), " can run"))
                          : CheckRegionModel(region, source->name, source->recipe);
    if (!status.ok()) refused.emplace_back(&model, base::ReasonFrom(status));
  }
  for (auto& [model, reason] : refused) {
    *model = Refused(model->name, model->version, model->folder, std::move(reason));
  }
}

}  // namespace

absl::StatusOr<Repository> Repository::Scan(const std::vector<std::string>& folders) {
  Repository repository;
  std::set<fs::path> scanned;
  for (const std::string& folder : folders) {
    std::error_code error;
    const fs::path canonical = fs::canonical(folder, error);
    if (!error && !scanned.insert(canonical).second) continue;
    const absl::StatusOr<std::vector<std::string>> names = Subfolders(folder);
    if (!names.ok()) {
      return base::Error(
          absl::StatusCode::kNotFound, "MODELS_FOLDER", folder,
          absl::StrCat("the model folder ", folder, " cannot be read: ", names.status().message()));
    }
    for (const std::string& name : *names) ScanModel(fs::path(folder) / name, &repository.models_);
  }

  std::vector<Model>& models = repository.models_;
  std::stable_sort(models.begin(), models.end(), [](const Model& a, const Model& b) {
    return a.name != b.name ? a.name < b.name : OlderVersion(a.version, b.version);
  });
  // Equal ones stand side by side now, in the order of the folders.
  for (std::size_t i = 1; i < models.size(); ++i) {
    Model& model = models[i];
    if (model.name != models[i - 1].name || model.version != models[i - 1].version) continue;
    if (model.refused.code() == "NAME_INVALID") continue;
    model = Refused(model.name, model.version, model.folder,
                    base::MakeReason("DUPLICATE_MODEL", absl::StrCat(model.name, "@", model.version),
                                     "another folder before this one holds the same model and version"));
  }
  RefuseCascades(&models);
  return repository;
}

absl::StatusOr<const Model*> Repository::Find(std::string_view name, std::string_view version) const {
  bool known = false;
  const Model* found = nullptr;
  // Ascending versions: without a version the last good one wins, else the last refused one is the answer.
  for (const Model& model : models_) {
    if (model.name != name) continue;
    known = true;
    if (!version.empty() && model.version != version) continue;
    if (model.good() || found == nullptr || !found->good()) found = &model;
  }
  if (!known) {
    return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_MODEL", name,
                       absl::StrCat("no model is called ", base::ToAbsl(name)));
  }
  if (found == nullptr) {
    return base::Error(absl::StatusCode::kNotFound, "UNKNOWN_VERSION", version,
                       absl::StrCat(base::ToAbsl(name), " has no version ", base::ToAbsl(version)));
  }
  if (!found->good()) {
    return base::Error(
        absl::StatusCode::kFailedPrecondition, "MODEL_REFUSED", found->refused.code(),
        absl::StrCat(found->name, "@", found->version, " is refused: ", found->refused.text()));
  }
  return found;
}

absl::StatusOr<std::vector<base::UniqueFd>> Repository::OpenFiles(const Model& model) {
  std::vector<base::UniqueFd> files;
  for (const std::string& file : NetworkFiles(model.recipe)) {
    TS_ASSIGN_OR_RETURN(base::UniqueFd fd, OpenRegular(fs::path(model.folder) / file, file));
    files.push_back(std::move(fd));
  }
  for (const std::string& file : KnownAnswerFiles(model.recipe)) {
    TS_ASSIGN_OR_RETURN(base::UniqueFd fd, OpenRegular(fs::path(model.folder) / file, file));
    files.push_back(std::move(fd));
  }
  return files;
}

}  // namespace tomoserve::models
