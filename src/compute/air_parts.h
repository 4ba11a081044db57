// Air of a volume as parts of slices: where the lungs end and the neck begins. Private to the room.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/labels.h"
#include "tomoserve/compute/parallel.h"

namespace tomoserve::compute {

// Parts (8-connected) of each slice of a mask [k][j][i] of 0 and 1.
class AirParts {
 public:
  // Errors: those of FindComponents.
  static absl::StatusOr<AirParts> Find(const LabelGrid<const std::uint8_t>& mask, const Parallel& parallel);

  // Samples of the slice.
  std::uint64_t SamplesOf(std::size_t k) const;
  // Samples of its largest and second largest part; 0 where there is none.
  std::array<std::uint64_t, 2> LargestOf(std::size_t k) const;

  // The first slice of the neck (see FindEnclosedAir): the slice nearest to that with most air, towards the
  // head, which is the end with the highest k or, where not `head_is_last`, the lowest.
  std::optional<std::size_t> FirstOfNeck(bool head_is_last, double sample_cm2, double slice_mm) const;

 private:
  // Samples of the parts of slice `k` that lie beside one of `runs`, and their runs.
  std::uint64_t PartsBeside(std::span<const RowRun> runs, std::size_t k, std::vector<RowRun>& parts) const;
  // Whether the single part of slice `k` is the head end of a tube, seen from there towards the feet.
  bool IsTube(std::int64_t k, std::int64_t to_feet, double sample_cm2, double slice_mm) const;

  std::vector<ComponentSet> slices_;
};

}  // namespace tomoserve::compute
