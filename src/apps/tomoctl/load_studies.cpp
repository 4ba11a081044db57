#include "apps/tomoctl/load_studies.h"

#include <algorithm>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "apps/tomoctl/files.h"
#include "apps/tomoctl/local_study.h"
#include "apps/tomoctl/own_server.h"
#include "apps/tomoctl/phantom_files.h"
#include "tomoserve/base/status.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::tomoctl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExplicitLittleEndian = "1.2.840.10008.1.2.1";
// Models are named, so the study's age does not matter.
constexpr const char* kDate = "20200101";

}  // namespace

absl::StatusOr<LoadStudy> LoadStudy::Read(const fs::path& folder) {
  TS_ASSIGN_OR_RETURN(const std::vector<fs::path> paths, RegularFiles(folder));
  LoadStudy study;
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    Template made{{std::istreambuf_iterator<char>(file), {}}, {}};
    if (!file) {
      return base::Error(absl::StatusCode::kNotFound, "UNREADABLE", path.string(),
                         absl::StrCat(path.string(), " cannot be read"));
    }
    made.uids = FindUids(made.bytes);
    const bool fresh = std::all_of(made.uids.begin(), made.uids.end(), [&](const UidPlace& place) {
      return !FreshUid(std::string_view(made.bytes).substr(place.offset, place.length), "").empty();
    });
    // Of the instance twice, its series, its study.
    if (made.uids.size() < 4 || !fresh) {
      return base::Error(absl::StatusCode::kInvalidArgument, "LOAD_UIDS", path.string(),
                         absl::StrCat("the UIDs of ", path.string(), " cannot be replaced by fresh ones"));
    }
    study.files_.push_back(std::move(made));
  }
  return study;
}

std::string LoadStudy::File(std::size_t index, const std::string& submission) const {
  std::string bytes = files_[index].bytes;
  for (const UidPlace& place : files_[index].uids) {
    const std::string_view uid = std::string_view(files_[index].bytes).substr(place.offset, place.length);
    bytes.replace(place.offset, place.length, FreshUid(uid, submission));
  }
  return bytes;
}

absl::StatusOr<LoadStudy> MakeLoadStudy(const PhantomSize& size, const std::vector<double>& spacing_mm,
                                        std::uint64_t seed) {
  phantom::Options options;
  options.size_ijk = {size.rows, size.rows, size.slices};
  std::copy_n(spacing_mm.begin(), 3, options.spacing_mm.begin());
  options.nodules = 2;
  options.nodule_mm = {6, 10};
  options.seed = seed;
  TS_ASSIGN_OR_RETURN(const phantom::Phantom made, phantom::MakePhantom(options));
  TS_ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Make());
  TS_ASSIGN_OR_RETURN(const auto helpers, StartHelpers());
  TS_RETURN_IF_ERROR(WriteSeries(folder.path(), options, made, {kExplicitLittleEndian, kDate, ""}, *helpers));
  return LoadStudy::Read(folder.path());
}

}  // namespace tomoserve::tomoctl
