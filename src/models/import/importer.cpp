// Files in, a repository entry out.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include "models/import/archive.h"
#include "models/import/composite.h"
#include "models/import/draft.h"
#include "models/import/errors.h"
#include "models/names.h"
#include "tomoserve/models/import.h"
#include "tomoserve/models/recipe.h"

namespace tomoserve::models {
namespace {

namespace fs = std::filesystem;
using importer::Json;
using Described = std::map<std::string, Json>;

// Of nnU-Net, where the exporter was given one.
constexpr char kPostprocessing[] = "postprocessing.json";

constexpr std::size_t kMaxFiles = 16;
constexpr std::size_t kMaxFilesOfParts = 28;

std::string FileName(const std::string& path) {
  return importer::OneLine(fs::path(path).filename().string(), 80);
}

bool IsNnunet(const Described& described) { return described.contains("plans.json"); }

absl::StatusOr<Described> Describe(const std::string& path) {
  TS_ASSIGN_OR_RETURN(const auto texts, importer::ReadExtraFiles(path));
  Described described;
  std::string names;
  for (const auto& [name, text] : texts) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", importer::OneLine(name, 80));
  }
  const bool nnunet = texts.contains("plans.json");
  const std::vector<std::string> wanted =
      nnunet ? std::vector<std::string>{"plans.json", "dataset.json", "checkpoint.json"}
             : std::vector<std::string>{"inference.json", "metadata.json"};
  for (const std::string& name : wanted) {
    const auto text = texts.find(name);
    if (text == texts.end()) {
      return importer::NotSupported(name, absl::StrCat(FileName(path), " carries no such file; it has ",
                                                       names.empty() ? "none" : names));
    }
    TS_ASSIGN_OR_RETURN(described[name], importer::ParseJson(text->second, name));
  }
  const auto postprocessing = texts.find(kPostprocessing);
  if (nnunet && postprocessing != texts.end()) {
    TS_ASSIGN_OR_RETURN(described[kPostprocessing],
                        importer::ParseJson(postprocessing->second, kPostprocessing));
    if (described[kPostprocessing].is_null()) return importer::Malformed(kPostprocessing, "is no object");
  }
  return described;
}

// The files of an ensemble say the same, but for the fold.
absl::Status CheckAgree(const Described& first, const Described& other, const std::string& file) {
  if (IsNnunet(first) != IsNnunet(other)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_MISMATCH", file,
                       absl::StrCat(file, ": MONAI bundles and nnU-Net models do not go together"));
  }
  if (first.contains(kPostprocessing) != other.contains(kPostprocessing)) {
    return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_MISMATCH", kPostprocessing,
                       absl::StrCat(file, " differs from the first file in having ", kPostprocessing));
  }
  for (const auto& [name, json] : first) {
    Json a = json;
    Json b = other.at(name);
    if (name == "checkpoint.json") {
      if (a.is_object()) a.erase("fold");
      if (b.is_object()) b.erase("fold");
    }
    if (const auto place = importer::FirstDifference(a, b, importer::Place())) {
      const std::string value = absl::StrCat(name, ": ", place->Text());
      return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_MISMATCH", value,
                         absl::StrCat(file, " differs from the first file in ", value));
    }
  }
  return absl::OkStatus();
}

// Files of one network, by their numbers.
using Group = std::vector<std::size_t>;

// Files that agree in everything but the fold, in the order of the first of each.
std::vector<Group> GroupsOf(const std::vector<Described>& all) {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return CheckAgree(all[group[0]], all[i], "").ok();
    });
    if (same == groups.end()) {
      groups.push_back({i});
    } else {
      same->push_back(i);
    }
  }
  return groups;
}

// Names of a group's files: `base`.ts; of several base_fold_<fold>.ts where the folds differ, else
// base_<n>.ts.
std::vector<std::string> NamesOf(const std::vector<Described>& all, const Group& group,
                                 const std::string& base, const std::string& fold_base) {
  if (group.size() == 1) return {absl::StrCat(base, ".ts")};
  std::vector<std::string> names;
  std::map<std::string, int> seen;
  for (const std::size_t file : group) {
    const auto checkpoint = all[file].find("checkpoint.json");
    std::string fold;
    if (checkpoint != all[file].end() && checkpoint->second.is_object() &&
        checkpoint->second.contains("fold")) {
      fold = importer::FolderName(importer::Short(checkpoint->second["fold"]));
    }
    if (fold.empty() || ++seen[fold] > 1) {
      names.clear();
      for (std::size_t i = 0; i < group.size(); ++i) names.push_back(absl::StrCat(base, "_", i, ".ts"));
      return names;
    }
    names.push_back(absl::StrCat(fold_base, fold, ".ts"));
  }
  return names;
}

// Names in the entry: of one group model.ts or fold_<fold>.ts, of several part_1.ts or part_1_fold_<fold>.ts.
std::vector<std::string> EntryNames(const std::vector<Described>& all, const std::vector<Group>& groups) {
  std::vector<std::string> names(all.size());
  for (std::size_t g = 0; g < groups.size(); ++g) {
    const std::string part = absl::StrCat("part_", g + 1);
    const std::vector<std::string> of_group = groups.size() == 1
                                                  ? NamesOf(all, groups[g], "model", "fold_")
                                                  : NamesOf(all, groups[g], part, part + "_fold_");
    for (std::size_t i = 0; i < groups[g].size(); ++i) names[groups[g][i]] = of_group[i];
  }
  return names;
}

absl::StatusOr<importer::Draft> DraftOf(const Described& described, const ImportOptions& options) {
  const auto found = described.find(kPostprocessing);
  const Json postprocessing = found == described.end() ? Json() : found->second;
  return IsNnunet(described)
             ? importer::DraftOfNnunet(described.at("plans.json"), described.at("dataset.json"),
                                       described.at("checkpoint.json"), postprocessing, options)
             : importer::DraftOfMonai(described.at("inference.json"), described.at("metadata.json"), options);
}

// The draft of a composite, whose parts these groups are.
absl::StatusOr<importer::Draft> DraftOfGroups(const std::vector<std::string>& files,
                                              const std::vector<Described>& all,
                                              const std::vector<Group>& groups,
                                              const std::vector<std::string>& names,
                                              const ImportOptions& options) {
  if (groups.size() < 2) {
    return importer::Malformed("--composite", "files of at least two models are required");
  }
  std::vector<importer::PartDraft> parts;
  for (const Group& group : groups) {
    importer::PartDraft& part = parts.emplace_back();
    part.source = FileName(files[group[0]]);
    auto drafted = DraftOf(all[group[0]], options);
    if (!drafted.ok()) {
      return base::Error(drafted.status().code(), base::ReasonOf(drafted.status()),
                         base::ValueOf(drafted.status()),
                         absl::StrCat(part.source, ": ", drafted.status().message()));
    }
    part.draft = *std::move(drafted);
    for (const std::size_t file : group) part.files.push_back(names[file]);
  }
  return importer::DraftOfComposite(std::move(parts));
}

absl::Status WriteFailed(const fs::path& path, const std::string& text) {
  return base::Error(absl::StatusCode::kFailedPrecondition, "WRITE_FAILED", path.string(),
                     absl::StrCat(path.string(), ": ", text));
}

absl::Status WriteText(const fs::path& path, const std::string& text) {
  std::ofstream stream(path, std::ios::binary);
  stream << text;
  stream.close();
  if (!stream) return WriteFailed(path, "cannot be written");
  return absl::OkStatus();
}

absl::Status Fill(const ImportedModel& model, const fs::path& folder) {
  std::error_code error;
  for (const auto& [name, source] : model.files) {
    if (!fs::copy_file(source, folder / name, error)) return WriteFailed(folder / name, error.message());
  }
  TS_RETURN_IF_ERROR(WriteText(folder / "recipe.textproto", model.recipe_text));
  return WriteText(folder / "card.md", model.card);
}

}  // namespace

absl::StatusOr<ImportedModel> importer::Compose(const std::vector<std::string>& files,
                                                const ImportOptions& options) {
  const std::size_t most = options.composite ? kMaxFilesOfParts : kMaxFiles;
  if (files.empty() || files.size() > most) {
    return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_INVALID", absl::StrCat(files.size()),
                       absl::StrCat("from 1 to ", most, " files are required"));
  }
  std::vector<Described> all;
  for (const std::string& file : files) {
    TS_ASSIGN_OR_RETURN(Described described, Describe(file));
    if (!all.empty() && !options.composite) {
      TS_RETURN_IF_ERROR(CheckAgree(all[0], described, FileName(file)));
    }
    all.push_back(std::move(described));
  }
  const std::vector<Group> groups = GroupsOf(all);
  const std::vector<std::string> names = EntryNames(all, groups);
  absl::StatusOr<importer::Draft> drafted =
      options.composite ? DraftOfGroups(files, all, groups, names, options) : DraftOf(all[0], options);
  TS_ASSIGN_OR_RETURN(importer::Draft draft, std::move(drafted));

  ImportedModel model;
  model.name = options.name;
  if (model.name.empty()) model.name = draft.suggested_name;
  if (model.name.empty()) model.name = importer::FolderName(fs::path(files[0]).stem().string());
  if (!IsName(model.name)) {
    return base::Error(
        absl::StatusCode::kInvalidArgument, "NAME_INVALID", importer::OneLine(model.name, 64),
        "a name of 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-', without a leading dot, is required");
  }
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!options.composite) draft.recipe.mutable_network()->add_files(names[i]);
    model.files.emplace_back(names[i], files[i]);
  }
  importer::AddCard(draft.about, draft.notes, &draft.recipe);

  std::vector<std::string> heading = {
      absl::StrCat("Made by `tomoctl model import`. Source: ", draft.recipe.card().source(), ".")};
  heading.insert(heading.end(), draft.remarks.begin(), draft.remarks.end());
  model.recipe_text = importer::RecipeText(draft.recipe, heading);
  model.recipe = std::move(draft.recipe);
  model.card = importer::CardText(model.name, draft.about, draft.notes, names);
  model.notes = std::move(draft.notes);
  return model;
}

absl::StatusOr<ImportedModel> ReadModel(const std::vector<std::string>& files, const ImportOptions& options) {
  TS_ASSIGN_OR_RETURN(ImportedModel model, importer::Compose(files, options));
  // What the server will read is what is judged.
  TS_ASSIGN_OR_RETURN(model.recipe, ParseRecipe(model.recipe_text));
  return model;
}

absl::StatusOr<std::string> WriteModel(const ImportedModel& model, std::string_view folder) {
  const fs::path parent = fs::path(folder) / model.name;
  const fs::path entry = parent / "1";
  std::error_code error;
  if (fs::exists(entry, error)) {
    return base::Error(
        absl::StatusCode::kAlreadyExists, "MODEL_EXISTS", model.name,
        absl::StrCat(entry.string(), " is there already; a version is never changed in place"));
  }
  fs::create_directories(parent, error);
  if (error) return WriteFailed(parent, error.message());
  // A leading dot: no scan sees it before it is whole.
  const fs::path scratch = parent / absl::StrCat(".import-", ::getpid());
  fs::create_directory(scratch, error);
  absl::Status status = error ? WriteFailed(scratch, error.message()) : Fill(model, scratch);
  if (status.ok()) {
    fs::rename(scratch, entry, error);
    if (error) status = WriteFailed(entry, error.message());
  }
  if (!status.ok()) {
    fs::remove_all(scratch, error);
    fs::remove(parent, error);  // only where it is empty
    return status;
  }
  return entry.string();
}

}  // namespace tomoserve::models
