#include "tomoserve/volume/run_bytes.h"

#include <algorithm>
#include <string>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

constexpr std::uint64_t kFloat = sizeof(float);
constexpr std::uint64_t kLabel = sizeof(std::uint16_t);
constexpr std::uint64_t kLongestStored = 4;  // bytes of a stored value
constexpr std::uint64_t kPiece = kPieceValues;
// No run has more of either; products of what is cut to them fit into 64 bits.
constexpr std::uint64_t kMostVoxels = std::uint64_t{1} << 40;
constexpr std::uint64_t kMostOnAxis = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostChannels = std::uint64_t{1} << 16;

std::uint64_t OnAxis(std::uint64_t n) { return std::min(n, kMostOnAxis); }

std::uint64_t Voxels(const std::array<std::uint64_t, 3>& size) {
  return std::min(OnAxis(size[0]) * OnAxis(size[1]) * OnAxis(size[2]), kMostVoxels);
}

std::uint64_t Channels(const RunArrays& arrays) { return std::min(arrays.channels, kMostChannels); }

std::uint64_t StagingBytes(const RunArrays& arrays) {
  const std::uint64_t plane = OnAxis(arrays.volume_ijk[0]) * OnAxis(arrays.volume_ijk[1]);
  return std::max<std::uint64_t>(kStagingBytes, plane * kLongestStored);
}

// The largest plane that resampling passes through: of two axes, each before or after it.
std::uint64_t LargestPlane(const RunArrays& arrays) {
  std::uint64_t plane = 1;
  for (const std::size_t axis : {std::size_t{0}, std::size_t{1}}) {
    plane *= std::max(OnAxis(arrays.prepared_ijk[axis]), OnAxis(arrays.volume_ijk[axis]));
  }
  return plane;
}

}  // namespace

RunArrays ArraysOf(const Geometry& volume, const Reorientation& reorientation,
                   const std::array<std::uint64_t, 3>& prepared_xyz, std::uint64_t channels) {
  RunArrays arrays;
  arrays.channels = channels;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    arrays.volume_ijk[axis] = volume.size_ijk()[axis];
    arrays.prepared_ijk[static_cast<std::size_t>(reorientation.source_axis[axis])] = prepared_xyz[axis];
  }
  return arrays;
}

// Before the windows the volume and the prepared copy, after them the prepared volume, the sums, the weights
// and labels on the model grid.
std::uint64_t LoopBytes(const RunArrays& arrays) {
  const std::uint64_t of_prepared = Voxels(arrays.prepared_ijk);
  const std::uint64_t before = (Voxels(arrays.volume_ijk) + of_prepared) * kFloat;
  const std::uint64_t after = of_prepared * ((Channels(arrays) + 2) * kFloat + kLabel);
  return std::max(before, after);
}

std::uint64_t DeviceBytes(const RunArrays& arrays) {
  const std::uint64_t of_volume = Voxels(arrays.volume_ijk);
  const std::uint64_t of_prepared = Voxels(arrays.prepared_ijk);
  const std::uint64_t channels = Channels(arrays);
  const std::uint64_t plane = LargestPlane(arrays);
  // Three stored copies and, of one, integers and doubles: of a byte eight at most.
  const std::uint64_t upload = of_volume * kFloat + StagingBytes(arrays) * (3 + 8 + 4);
  // A mix holds what it reads from, low, high and their difference; a statistic doubles and masks.
  const std::uint64_t prepare = (of_volume + of_prepared) * kFloat + std::max(kPiece, plane) * 4 * kFloat;
  // Prepared volume or weights, sums, labels of both grids; of one piece the scores read, mixed and
  // activated, channel numbers and indices.
  const std::uint64_t finish = of_prepared * (channels + 1) * kFloat + (of_volume + of_prepared) * kLabel +
                               std::max(kPiece, plane * channels) * 6 * kFloat;
  return std::max({upload, prepare, finish});
}

// Staging, and samples of enclosed air.
std::uint64_t HostBytesBesideDevice(const RunArrays& arrays) {
  return 3 * StagingBytes(arrays) + Voxels(arrays.volume_ijk);
}

absl::Status CheckRunFits(std::uint64_t needed, std::uint64_t limit, std::uint64_t resident,
                          std::string_view where) {
  const std::uint64_t free = limit - std::min(limit, resident);
  if (needed <= free) return absl::OkStatus();
  return base::Error(absl::StatusCode::kResourceExhausted, "RUN_TOO_LARGE", std::to_string(needed),
                     "the run needs more memory than " + std::string(where) +
                         " has for it: " + std::to_string(free) + " bytes beside the loaded models");
}

}  // namespace tomoserve::volume
