// Scores of single voxels, wherever they lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::pipeline {

class ScoreReader {
 public:
  // The scores of the voxels of part `part`, in order.
  using Use = std::function<void(std::size_t part, std::span<const float> scores)>;

  virtual ~ScoreReader() = default;

  // Calls `use` once for each part, maybe from several threads, with each voxel's highest score of these
  // channels (at least one) on the volume's grid. Errors: OUT_OF_MEMORY, CANCELLED.
  virtual absl::Status ReadRuns(std::span<const std::int64_t> channels,
                                std::span<const std::span<const compute::RowRun>> parts, const Use& use,
                                const compute::Parallel& parallel) const = 0;
};

}  // namespace tomoserve::pipeline
