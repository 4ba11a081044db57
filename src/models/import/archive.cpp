#include "models/import/archive.h"

#include <zip.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "models/import/json.h"
#include "tomoserve/base/status.h"

namespace tomoserve::models::importer {
namespace {

constexpr zip_int64_t kMaxMembers = 100000;
constexpr zip_uint64_t kMaxBytes = 8U << 20;      // of an extra file
constexpr zip_uint64_t kMaxAllBytes = 32U << 20;  // of all

struct CloseArchive {
  void operator()(zip_t* archive) const { zip_discard(archive); }
};
struct CloseMember {
  void operator()(zip_file_t* member) const { zip_fclose(member); }
};

// "model/extra/inference.json" -> "inference.json"; empty for every other member.
std::string_view ExtraJson(std::string_view member) {
  const std::size_t root = member.find('/');
  if (root == std::string_view::npos) return {};
  constexpr std::string_view kExtra = "extra/";
  std::string_view rest = member.substr(root + 1);
  if (rest.substr(0, kExtra.size()) != kExtra) return {};
  rest.remove_prefix(kExtra.size());
  const bool json = rest.size() > 5 && rest.substr(rest.size() - 5) == ".json";
  return json && rest.find('/') == std::string_view::npos ? rest : std::string_view();
}

bool IsCode(std::string_view member) {
  const std::size_t root = member.find('/');
  return root != std::string_view::npos && member.substr(root + 1, 5) == "code/";
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> ReadExtraFiles(const std::string& path) {
  const std::string file = OneLine(std::filesystem::path(path).filename().string(), 80);
  const auto failure = [&file](const std::string& text) {
    return base::Error(absl::StatusCode::kInvalidArgument, "IMPORT_ARCHIVE", file,
                       absl::StrCat(file, ": ", text));
  };
  int error = 0;
  const std::unique_ptr<zip_t, CloseArchive> archive(zip_open(path.c_str(), ZIP_RDONLY, &error));
  if (archive == nullptr) {
    if (error == ZIP_ER_NOENT) return failure("there is no such file");
    return failure(error == ZIP_ER_OPEN || error == ZIP_ER_READ ? "cannot be read"
                                                                : "is no TorchScript: no zip archive");
  }
  const zip_int64_t members = zip_get_num_entries(archive.get(), 0);
  if (members > kMaxMembers) return failure(absl::StrCat("has more than ", kMaxMembers, " members"));

  std::map<std::string, std::string> texts;
  std::set<std::string> seen;
  bool code = false;
  zip_uint64_t bytes = 0;
  for (zip_uint64_t index = 0; index < static_cast<zip_uint64_t>(members); ++index) {
    const char* name = zip_get_name(archive.get(), index, ZIP_FL_ENC_RAW);
    if (name == nullptr) return failure("has a member without a name");
    if (!seen.insert(name).second) return failure(absl::StrCat(OneLine(name, 80), " stands twice"));
    code = code || IsCode(name);
    const std::string extra(ExtraJson(name));
    if (extra.empty()) continue;
    const std::string shown = OneLine(extra, 80);
    zip_stat_t info;
    if (zip_stat_index(archive.get(), index, 0, &info) != 0 || (info.valid & ZIP_STAT_SIZE) == 0) {
      return failure(absl::StrCat("the size of ", shown, " is not stated"));
    }
    if (info.size > kMaxBytes) return failure(absl::StrCat(shown, " is larger than ", kMaxBytes, " bytes"));
    bytes += info.size;
    if (bytes > kMaxAllBytes)
      return failure(absl::StrCat("has extra files of more than ", kMaxAllBytes, " bytes"));
    const std::unique_ptr<zip_file_t, CloseMember> member(zip_fopen_index(archive.get(), index, 0));
    if (member == nullptr) return failure(absl::StrCat(shown, " cannot be read"));
    std::string text(info.size, '\0');
    const zip_int64_t read = zip_fread(member.get(), text.data(), text.size());
    // One byte more would mean that the stated size is wrong.
    char more = 0;
    if (read != static_cast<zip_int64_t>(text.size()) || zip_fread(member.get(), &more, 1) != 0) {
      return failure(absl::StrCat(shown, " is damaged"));
    }
    if (!texts.emplace(extra, std::move(text)).second) return failure(absl::StrCat(shown, " stands twice"));
  }
  if (!code) return failure("is no TorchScript: the archive has no code");
  return texts;
}

}  // namespace tomoserve::models::importer
