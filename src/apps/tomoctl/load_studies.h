// The studies that a load test sends again and again, each time as another one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "apps/tomoctl/load_plan.h"

namespace tomoserve::tomoctl {

// A study in memory, as it is sent: with fresh UIDs its files are other files of another study.
class LoadStudy {
 public:
  // All files below `folder`. Errors: NO_SUCH_PATH, NO_FILES, UNREADABLE, LOAD_UIDS (value: the file) where
  // UIDs cannot be found or replaced.
  static absl::StatusOr<LoadStudy> Read(const std::filesystem::path& folder);

  std::size_t files() const { return files_.size(); }
  // File `index` with the UIDs that belong to this submission.
  std::string File(std::size_t index, const std::string& submission) const;

 private:
  struct Template {
    std::string bytes;
    std::vector<UidPlace> uids;
  };
  std::vector<Template> files_;
};

// A phantom chest of that size and spacing, by the generator of tomoctl phantom. Errors: as it.
absl::StatusOr<LoadStudy> MakeLoadStudy(const PhantomSize& size, const std::vector<double>& spacing_mm,
                                        std::uint64_t seed);

}  // namespace tomoserve::tomoctl
