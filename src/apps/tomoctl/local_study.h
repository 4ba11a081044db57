// Studies on this machine, read without a server: files -> headers -> series -> voxel statistics, through
// tomoserve-dicom like the server does it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/base/unique_fd.h"
#include "tomoserve/ipc/helper_pool.h"
#include "tomoserve/series/study_series.h"
#include "tomoserve/volume/hounsfield.h"

namespace tomoserve::tomoctl {

// A pool with the tomoserve-dicom that lies beside this program.
absl::StatusOr<std::unique_ptr<ipc::HelperPool>> StartHelpers();

// Rescaled values of the slices of one volume, as they were acquired.
struct VoxelStatistics {
  std::string sha256;  // values rounded half to even to int16 (saturated), little-endian, [k][j][i]
  double min = 0;
  double max = 0;
  double mean = 0;
  volume::HounsfieldCounts hounsfield;  // of a CT in Hounsfield units
};

struct RefusedFile {
  std::filesystem::path file;
  std::string code;
  std::string text;
};

// Files copied into one unlinked file in $TMPDIR (default /tmp), which helpers read. Confined to one thread.
class LocalStudies {
 public:
  // Reads every file and its header. A file that cannot be read or is no DICOM is refused, not an error.
  // Errors: SPOOL_FAILED where the temporary file cannot be written; the pool's kUnavailable where no helper
  // can be had.
  static absl::StatusOr<LocalStudies> Read(const std::vector<std::filesystem::path>& files,
                                           ipc::HelperPool& helpers);

  // One entry per study, by Study Instance UID. Slices name their file by its number in `files`.
  const std::vector<series::StudySeries>& studies() const { return studies_; }
  const std::vector<RefusedFile>& refused() const { return refused_; }

  // Decodes a volume with a geometry slice by slice. Errors: those of the helper for the first slice that
  // fails.
  absl::StatusOr<VoxelStatistics> Measure(const series::Volume& volume, ipc::HelperPool& helpers) const;

 private:
  struct File {
    ipc::v1::SpoolRange range;
    std::uint32_t rows = 0;
    std::uint32_t columns = 0;
    bool high_throughput = false;
  };

  base::UniqueFd spool_;
  std::map<std::uint32_t, File> files_;  // by their number
  std::vector<series::StudySeries> studies_;
  std::vector<RefusedFile> refused_;
};

}  // namespace tomoserve::tomoctl
