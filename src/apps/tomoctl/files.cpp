#include "apps/tomoctl/files.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tomoserve/base/status.h"

namespace tomoserve::tomoctl {

absl::StatusOr<std::vector<std::filesystem::path>> RegularFiles(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::is_regular_file(path, error)) return std::vector<fs::path>{path};
  std::vector<fs::path> files;
  fs::recursive_directory_iterator entry(path, fs::directory_options::skip_permission_denied, error);
  if (error) {
    return base::Error(absl::StatusCode::kNotFound, "NO_SUCH_PATH", path.string(),
                       absl::StrCat(path.string(), ": ", error.message()));
  }
  for (; entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (error) break;
    if (entry->is_regular_file(error) && entry->path().filename() != "truth.json")
      files.push_back(entry->path());
  }
  if (files.empty()) {
    return base::Error(absl::StatusCode::kNotFound, "NO_FILES", path.string(),
                       absl::StrCat(path.string(), " holds no files"));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace tomoserve::tomoctl
