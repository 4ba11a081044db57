#include "tomoserve/compute/region.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <vector>

#include "compute/run_sets.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {
namespace {

constexpr std::size_t kValues = std::size_t{1} << 16;  // that a label of two bytes may have

// Whether any of a part's voxels has a label that counts.
template <typename Label>
bool MarkPart(const std::byte* labels, const std::vector<std::uint8_t>& counts,
              std::span<std::uint8_t> mask) {
  std::uint8_t any = 0;
  for (std::size_t v = 0; v < mask.size(); ++v) {
    Label label;
    std::memcpy(&label, labels + v * sizeof(Label), sizeof(Label));
    mask[v] = counts[label];
    any |= mask[v];
  }
  return any != 0;
}

}  // namespace

absl::StatusOr<at::Tensor> RegionMask(std::span<const std::byte> labels, std::uint32_t bytes_per_voxel,
                                      const std::array<std::uint32_t, 3>& size_ijk,
                                      std::span<const std::uint32_t> values, const Parallel& parallel) {
  const std::size_t slice_size = std::size_t{size_ijk[0]} * size_ijk[1];
  const bool known = bytes_per_voxel == 1 || bytes_per_voxel == 2;
  if (!known || labels.size() != slice_size * size_ijk[2] * bytes_per_voxel) {
    return base::Error(absl::StatusCode::kInvalidArgument, "REGION_SIZE", std::to_string(labels.size()),
                       "the region's label map does not have the size of the volume");
  }
  std::vector<std::uint8_t> counts(kValues);
  for (const std::uint32_t value : values) {
    if (value < kValues) counts[value] = 1;
  }
  return Fenced([&]() -> absl::StatusOr<at::Tensor> {
    const at::Tensor mask = at::empty({size_ijk[2], size_ijk[1], size_ijk[0]}, at::kByte);
    auto* const to = mask.mutable_data_ptr<std::uint8_t>();
    std::atomic<bool> any{false};
    TS_RETURN_IF_ERROR(ParallelFor(parallel, size_ijk[2], [&](std::int64_t k, int) {
      const std::size_t first = static_cast<std::size_t>(k) * slice_size;
      const std::byte* const from = labels.data() + first * bytes_per_voxel;
      const std::span<std::uint8_t> part(to + first, slice_size);
      const bool found = bytes_per_voxel == 1 ? MarkPart<std::uint8_t>(from, counts, part)
                                              : MarkPart<std::uint16_t>(from, counts, part);
      if (found) any = true;
    }));
    if (any) return mask;
    return base::Error(absl::StatusCode::kFailedPrecondition, "REGION_EMPTY", "",
                       "the other model has found none of the region's labels");
  });
}

std::vector<RowRun> RunsApart(const ComponentSet& set, const std::array<std::int64_t, 3>& size_kji,
                              std::span<const std::uint8_t> region) {
  const auto meets = [&](const RowRun& run) {
    const std::int64_t row = (run.k * size_kji[1] + run.j) * size_kji[2];
    const std::uint8_t* const first = region.data() + row + run.first_i;
    return std::any_of(first, first + run.voxels(), [](std::uint8_t inside) { return inside != 0; });
  };
  std::vector<RowRun> apart;
  for (const Component& component : set.components) {
    const std::span<const RowRun> runs = set.RunsOf(component);
    if (std::none_of(runs.begin(), runs.end(), meets)) apart.insert(apart.end(), runs.begin(), runs.end());
  }
  return apart;
}

template <typename Label>
absl::Status KeepInRegion(const LabelGrid<Label>& grid, std::span<const std::uint8_t> region,
                          bool whole_components, const Parallel& parallel) {
  const auto [slices, rows, columns] = grid.size_kji;
  if (!whole_components) {
    return ParallelFor(parallel, slices, [&](std::int64_t k, int) {
      const auto first = static_cast<std::size_t>(k * rows * columns);
      const auto end = first + static_cast<std::size_t>(rows * columns);
      for (std::size_t v = first; v < end; ++v) grid.voxels[v] = region[v] != 0 ? grid.voxels[v] : Label{0};
    });
  }
  TS_ASSIGN_OR_RETURN(const ComponentSet set, FindComponents<Label>({grid.voxels, grid.size_kji}, parallel));
  for (const RowRun& run : RunsApart(set, grid.size_kji, region)) {
    Label* const row = grid.voxels.data() + (run.k * rows + run.j) * columns;
    std::fill_n(row + run.first_i, run.voxels(), Label{0});
  }
  return absl::OkStatus();
}

template absl::Status KeepInRegion<std::uint8_t>(const LabelGrid<std::uint8_t>&,
                                                 std::span<const std::uint8_t>, bool, const Parallel&);
template absl::Status KeepInRegion<std::uint16_t>(const LabelGrid<std::uint16_t>&,
                                                  std::span<const std::uint8_t>, bool, const Parallel&);

}  // namespace tomoserve::compute
