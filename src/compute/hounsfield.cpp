#include "tomoserve/compute/hounsfield.h"

#include <algorithm>
#include <vector>

#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {
namespace {

constexpr std::size_t kStep = 4;

}  // namespace

absl::StatusOr<volume::HounsfieldCounts> CountHounsfield(std::span<const StoredSlice> slices,
                                                         const std::array<std::uint32_t, 3>& size_ijk,
                                                         const Parallel& parallel) {
  TS_RETURN_IF_ERROR(CheckSlices(slices, size_ijk));
  return Fenced([&]() -> absl::StatusOr<volume::HounsfieldCounts> {
    std::vector<volume::HounsfieldCounts> of_slice(slices.size());
    TS_RETURN_IF_ERROR(
        ParallelFor(parallel, static_cast<std::int64_t>(slices.size()), [&](std::int64_t k, int) {
          const auto at = static_cast<std::size_t>(k);
          StoredSlice stored = slices[at];
          if (stored.between) return;
          std::array<std::size_t, 2> size{size_ijk[0], size_ijk[1]};
          if (stored.shift) size = {stored.shift->stored_size_ij[0], stored.shift->stored_size_ij[1]};
          stored.shift.reset();
          std::vector<float> samples(((size[0] + kStep - 1) / kStep) * ((size[1] + kStep - 1) / kStep));
          RescaleSamples({&stored, 1}, 0, size[0], kStep, kStep, samples);
          for (const float hu : samples) of_slice[at].Add(hu);
        }));
    volume::HounsfieldCounts counts;
    for (const volume::HounsfieldCounts& one : of_slice) counts += one;
    return counts;
  });
}

}  // namespace tomoserve::compute
