#include "tomoserve/compute/on_device/runs.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/repeat_interleave.h>

#include <optional>

#include "compute/on_device/staging.h"
#include "tomoserve/compute/on_device/chunks.h"

namespace tomoserve::compute::on_device {

std::vector<std::span<const RowRun>> Batches(std::span<const RowRun> runs, std::int64_t values_of_voxel) {
  std::vector<std::span<const RowRun>> batches;
  std::size_t begin = 0;
  std::int64_t voxels = 0;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    if (voxels > 0 && voxels + runs[run].voxels() > SlicesOfChunk(values_of_voxel)) {
      batches.push_back(runs.subspan(begin, run - begin));
      begin = run;
      voxels = 0;
    }
    voxels += runs[run].voxels();
  }
  if (begin < runs.size()) batches.push_back(runs.subspan(begin));
  return batches;
}

std::int64_t VoxelsOf(std::span<const RowRun> runs) {
  std::int64_t voxels = 0;
  for (const RowRun& run : runs) voxels += run.voxels();
  return voxels;
}

at::Tensor FlatIndices(std::span<const RowRun> runs, const std::array<std::int64_t, 3>& size_kji,
                       at::Device device) {
  std::vector<std::int64_t> lengths;
  std::vector<std::int64_t> shifts;  // from a voxel's place among all voxels to its index
  lengths.reserve(runs.size());
  shifts.reserve(runs.size());
  std::int64_t before = 0;
  for (const RowRun& run : runs) {
    const std::int64_t first = (run.k * size_kji[1] + run.j) * size_kji[2] + run.first_i;
    lengths.push_back(run.voxels());
    shifts.push_back(first - before);
    before += run.voxels();
  }
  // With the size given, nobody waits for the device to tell it.
  const at::Tensor run_of =
      at::repeat_interleave(ToDevice<std::int64_t>(lengths, device), std::optional<std::int64_t>(before));
  return ToDevice<std::int64_t>(shifts, device)
      .index_select(0, run_of)
      .add_(at::arange(before, at::TensorOptions(at::kLong).device(device)));
}

}  // namespace tomoserve::compute::on_device
