#include "pipeline/run_bytes.h"

#include <algorithm>
#include <array>

#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::pipeline {
namespace {

constexpr std::uint64_t kFloat = sizeof(float);
constexpr std::uint64_t kLongestStored = 4;  // bytes of a stored value
constexpr std::uint64_t kChunk = compute::on_device::kChunkValues;

std::uint64_t StagingBytes(const volume::Geometry& volume) {
  const std::uint64_t plane = std::uint64_t{volume.size_ijk()[0]} * volume.size_ijk()[1];
  return std::max<std::uint64_t>(compute::on_device::kStagingBytes, plane * kLongestStored);
}

// The largest plane that resampling passes through: of two axes, each before or after it.
std::uint64_t LargestPlane(const volume::Geometry& volume, const compute::ModelGrid& model) {
  const std::array<std::int64_t, 3> size = compute::MemorySize(model);
  std::uint64_t plane = 1;
  for (const std::size_t dimension : {std::size_t{1}, std::size_t{2}}) {
    plane *= std::max<std::uint64_t>(static_cast<std::uint64_t>(size[dimension]),
                                     volume.size_ijk()[2 - dimension]);
  }
  return plane;
}

}  // namespace

// Before the windows the volume and the prepared copy, after them the prepared volume, the sums, the weights
// and labels on the model grid.
std::uint64_t LoopBytes(const volume::Geometry& volume, const compute::ModelGrid& model,
                        std::uint64_t channels) {
  const std::uint64_t before = (volume.voxels() + model.geometry.voxels()) * kFloat;
  // At most 2^40 voxels and 2^16 channels: the product fits.
  const std::uint64_t after = model.geometry.voxels() * ((channels + 2) * kFloat + sizeof(std::uint16_t));
  return std::max(before, after);
}

std::uint64_t DeviceBytes(const volume::Geometry& volume, const compute::ModelGrid& model,
                          std::uint64_t channels) {
  const std::uint64_t of_volume = volume.voxels();
  const std::uint64_t of_model = model.geometry.voxels();
  const std::uint64_t plane = LargestPlane(volume, model);
  // Three stored copies and, of one, integers and doubles: of a byte eight at most.
  const std::uint64_t upload = of_volume * kFloat + StagingBytes(volume) * (3 + 8 + 4);
  // A mix holds what it reads from, low, high and their difference; a statistic doubles and masks.
  const std::uint64_t prepare = (of_volume + of_model) * kFloat + std::max(kChunk, plane) * 4 * kFloat;
  // Prepared volume or weights, sums, labels of both grids; of one piece the scores read, mixed and
  // activated, channel numbers and indices.
  const std::uint64_t finish = of_model * (channels + 1) * kFloat +
                               (of_volume + of_model) * sizeof(std::uint16_t) +
                               std::max(kChunk, plane * channels) * 6 * kFloat;
  return std::max({upload, prepare, finish});
}

// Staging, and samples of enclosed air.
std::uint64_t HostBytesBesideDevice(const volume::Geometry& volume) {
  return 3 * StagingBytes(volume) + volume.voxels();
}

}  // namespace tomoserve::pipeline
