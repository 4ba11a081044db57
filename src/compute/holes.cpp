#include <algorithm>
#include <limits>
#include <utility>

#include "compute/run_sets.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"

namespace tomoserve::compute {
namespace {

// Runs of everything that is not `label`.
template <typename Label>
absl::StatusOr<LabelledRuns> RunsBetween(const LabelGrid<Label>& grid, Label label,
                                         const Parallel& parallel) {
  const auto [slices, rows, columns] = grid.size_kji;
  LabelledRuns found;
  for (std::int64_t k = 0; k < slices; ++k) {
    TS_RETURN_IF_ERROR(CheckCancelled(parallel));
    for (std::int64_t j = 0; j < rows; ++j) {
      const Label* const row = grid.voxels.data() + (k * rows + j) * columns;
      const Label* const end = row + columns;
      const auto is_other = [label](Label value) { return value != label; };
      for (const Label* at = std::find_if(row, end, is_other); at != end;) {
        const Label* const next = std::find(at, end, label);
        found.runs.push_back({static_cast<std::int32_t>(k), static_cast<std::int32_t>(j),
                              static_cast<std::int32_t>(at - row),
                              static_cast<std::int32_t>(next - row - 1)});
        at = std::find_if(next, end, is_other);
      }
    }
    TS_RETURN_IF_ERROR(CheckRunCount(found.runs.size()));
  }
  found.labels.assign(found.runs.size(), 1);
  return found;
}

}  // namespace

std::vector<RowRun> RunsWithin(const ComponentSet& set, const std::array<std::int64_t, 3>& size_kji) {
  const auto at_face = [&](const RowRun& run) {
    return run.k == 0 || run.k + 1 == size_kji[0] || run.j == 0 || run.j + 1 == size_kji[1] ||
           run.first_i == 0 || run.last_i + 1 == size_kji[2];
  };
  std::vector<RowRun> within;
  for (const Component& component : set.components) {
    const std::span<const RowRun> runs = set.RunsOf(component);
    if (std::none_of(runs.begin(), runs.end(), at_face))
      within.insert(within.end(), runs.begin(), runs.end());
  }
  return within;
}

template <typename Label>
absl::Status FillHoles(const LabelGrid<Label>& grid, std::uint32_t label, const Parallel& parallel) {
  // No voxel has or encloses anything with a label that none can have.
  if (label == 0 || label > std::numeric_limits<Label>::max()) return absl::OkStatus();
  const auto value = static_cast<Label>(label);
  TS_ASSIGN_OR_RETURN(LabelledRuns between, RunsBetween(grid, value, parallel));
  TS_ASSIGN_OR_RETURN(const ComponentSet set, JoinRuns(std::move(between), grid.size_kji[0], grid.size_kji[1],
                                                       parallel, Neighbours::kFaces));
  for (const RowRun& run : RunsWithin(set, grid.size_kji)) {
    Label* const row = grid.voxels.data() + (run.k * grid.size_kji[1] + run.j) * grid.size_kji[2];
    std::replace(row + run.first_i, row + run.last_i + 1, Label{0}, value);
  }
  return absl::OkStatus();
}

template absl::Status FillHoles<std::uint8_t>(const LabelGrid<std::uint8_t>&, std::uint32_t, const Parallel&);
template absl::Status FillHoles<std::uint16_t>(const LabelGrid<std::uint16_t>&, std::uint32_t,
                                               const Parallel&);

}  // namespace tomoserve::compute
