// Connected components of label grids, 26-connected, by union-find over runs.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Neighbouring voxels of one label on one row.
struct RowRun {
  std::int32_t k = 0;
  std::int32_t j = 0;
  std::int32_t first_i = 0;
  std::int32_t last_i = 0;  // inclusive
  bool operator==(const RowRun&) const = default;
  std::int64_t voxels() const { return std::int64_t{last_i} - first_i + 1; }
};

// Voxels of one label that hang together by faces, edges or corners.
struct Component {
  std::uint32_t label = 0;
  std::uint64_t voxels = 0;
  std::size_t first_run = 0;  // in ComponentSet::runs
  std::size_t runs = 0;
};

// Components in the order of their first voxels in k, j, i; the runs of each in that order too.
struct ComponentSet {
  std::vector<Component> components;
  std::vector<RowRun> runs;
  std::span<const RowRun> RunsOf(const Component& component) const {
    return std::span(runs).subspan(component.first_run, component.runs);
  }
};

// Most runs that labels may have; more is noise, and would take more memory than a volume.
inline constexpr std::size_t kMaxRuns = std::size_t{1} << 25;

// Components of every label but 0; voxels of different labels never hang together. Errors:
// kResourceExhausted LABELS_TOO_FRAGMENTED beyond kMaxRuns; kCancelled CANCELLED.
template <typename Label>
absl::StatusOr<ComponentSet> FindComponents(const LabelGrid<const Label>& grid, const Parallel& parallel);

// Sets to 0 all voxels of `label` that are not in its `count` largest components; of equal ones those that
// come first in k, j, i stay. Errors: those of FindComponents.
template <typename Label>
absl::Status KeepLargestComponents(const LabelGrid<Label>& grid, std::uint32_t label, std::size_t count,
                                   const Parallel& parallel);

// Gives `label` (not 0) the background that it encloses: voxels of value 0 from which no path over faces
// through voxels of other values leads to a face of the grid. Other labels that are enclosed stay. Errors:
// those of FindComponents.
template <typename Label>
absl::Status FillHoles(const LabelGrid<Label>& grid, std::uint32_t label, const Parallel& parallel);

}  // namespace tomoserve::compute
