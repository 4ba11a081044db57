#include "tomoserve/compute/stored_area.h"

#include <algorithm>
#include <cmath>

#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

StoredArea AreaOf(const StoredSlice& slice, const std::array<std::uint32_t, 3>& size_ijk) {
  StoredArea area;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    const double shift = slice.shift ? slice.shift->ij[axis] : 0;
    area.size_ij[axis] = slice.shift ? slice.shift->stored_size_ij[axis] : size_ijk[axis];
    area.centre_ij[axis] = shift + (area.size_ij[axis] - 1.0) / 2;
    area.first_ij[axis] = static_cast<std::int64_t>(std::ceil(shift));
    const auto last = static_cast<std::int64_t>(std::floor(shift)) + area.size_ij[axis] - 1;
    area.last_ij[axis] = std::min<std::int64_t>(last, std::int64_t{size_ijk[axis]} - 1);
  }
  return area;
}

StoredArea AreaBetween(const StoredArea& before, const StoredArea& after, double weight) {
  StoredArea area = before;
  area.interpolated = true;
  for (std::size_t axis = 0; axis < 2; ++axis) {
    area.first_ij[axis] = std::max(before.first_ij[axis], after.first_ij[axis]);
    area.last_ij[axis] = std::min(before.last_ij[axis], after.last_ij[axis]);
    area.centre_ij[axis] = Mix(before.centre_ij[axis], after.centre_ij[axis], weight);
  }
  return area;
}

}  // namespace

absl::StatusOr<std::vector<StoredArea>> StoredAreas(std::span<const StoredSlice> slices,
                                                    const std::array<std::uint32_t, 3>& size_ijk) {
  TS_RETURN_IF_ERROR(CheckSlices(slices, size_ijk));
  std::vector<StoredArea> areas;
  areas.reserve(slices.size());
  for (const StoredSlice& slice : slices) {
    if (!slice.between) {
      areas.push_back(AreaOf(slice, size_ijk));
      continue;
    }
    const Between& between = *slice.between;
    areas.push_back(AreaBetween(AreaOf(slices[between.before], size_ijk),
                                AreaOf(slices[between.after], size_ijk), between.weight));
  }
  return areas;
}

std::vector<StoredArea> WholeAreas(const std::array<std::uint32_t, 3>& size_ijk) {
  return std::vector<StoredArea>(size_ijk[2], AreaOf({}, size_ijk));
}

}  // namespace tomoserve::compute
