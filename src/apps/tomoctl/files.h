// The files that a verb was pointed at.
#pragma once

#include <filesystem>
#include <vector>

#include "absl/status/statusor.h"

namespace tomoserve::tomoctl {

// `path` itself, or all regular files below it, sorted by path, without the truth.json that a
// phantom has beside its series. Errors: NO_SUCH_PATH, NO_FILES.
absl::StatusOr<std::vector<std::filesystem::path>> RegularFiles(const std::filesystem::path& path);

}  // namespace tomoserve::tomoctl
