// Components of runs, wherever these were found. Private to the room.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Runs in k, j, i order and the label of each.
struct LabelledRuns {
  std::vector<RowRun> runs;
  std::vector<std::uint32_t> labels;
};

// Too many runs: kResourceExhausted LABELS_TOO_FRAGMENTED.
absl::Status CheckRunCount(std::size_t runs);

// Which voxels hang together.
enum class Neighbours {
  kCorners,  // by faces, edges or corners: 26
  kFaces,    // by faces: 6
};

// Components of the runs of a grid of `slices` x `rows` rows. Errors: those of FindComponents.
absl::StatusOr<ComponentSet> JoinRuns(LabelledRuns found, std::int64_t slices, std::int64_t rows,
                                      const Parallel& parallel, Neighbours neighbours = Neighbours::kCorners);

// Components of a label that are not among its `count` largest.
std::vector<const Component*> AllButLargest(const ComponentSet& set, std::uint32_t label, std::size_t count);

// Runs of the components that touch no face of a grid of this size.
std::vector<RowRun> RunsWithin(const ComponentSet& set, const std::array<std::int64_t, 3>& size_kji);

// Runs of the components without a voxel where `region`, [k][j][i] of this size, is not 0.
std::vector<RowRun> RunsApart(const ComponentSet& set, const std::array<std::int64_t, 3>& size_kji,
                              std::span<const std::uint8_t> region);

}  // namespace tomoserve::compute
