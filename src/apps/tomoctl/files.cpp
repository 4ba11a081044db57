#include "apps/tomoctl/files.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {

absl::StatusOr<std::vector<std::filesystem::path>> RegularFiles(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_regular_file(path, error)) return std::vector<fs::path>{path};
  const auto unreadable = [](const fs::path& where, const std::error_code& why) {
    return base::Error(absl::StatusCode::kNotFound, "NO_SUCH_PATH", where.string(),
                       absl::StrCat(where.string(), ": ", why.message()));
  };
  std::vector<fs::path> files;
  fs::recursive_directory_iterator entry(path, error);
  if (error) return unreadable(path, error);
  // A folder that cannot be read is an error: a study without it would look complete.
  while (entry != fs::recursive_directory_iterator()) {
    const fs::path at = entry->path();
    if (entry->is_regular_file(error) && at.filename() != "truth.json") files.push_back(at);
    entry.increment(error);
    if (error) return unreadable(at, error);
  }
  if (files.empty()) {
    return base::Error(absl::StatusCode::kNotFound, "NO_FILES", path.string(),
                       absl::StrCat(path.string(), " holds no files"));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace tomoserve::tomoctl
