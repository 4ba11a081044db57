#include "tomoserve/compute/object_values.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

constexpr std::size_t kRunsOfPart = 1024;

// Where a voxel of an object's grid lies along an axis of the volume.
std::int64_t PlaceOf(const std::vector<std::int32_t>& nearest, std::int64_t at) {
  return nearest.empty() ? at : std::int64_t{nearest[static_cast<std::size_t>(at)]};
}

struct Sums {
  std::uint64_t values = 0;
  double sum = 0;
  double squares = 0;
};

// Adds the values of a run; `row` is working space.
void AddRun(std::span<const StoredSlice> slices, std::size_t columns, std::span<const StoredArea> areas,
            const NearestVoxels& nearest, const RowRun& run, std::vector<float>& row, Sums& sums) {
  const auto k = static_cast<std::size_t>(PlaceOf(nearest[2], run.k));
  const std::int64_t j = PlaceOf(nearest[1], run.j);
  const StoredArea& area = areas[k];
  if (area.IsEmpty() || j < area.first_ij[1] || j > area.last_ij[1]) return;
  const auto [low, high] =
      std::minmax({PlaceOf(nearest[0], run.first_i), PlaceOf(nearest[0], run.last_i)});  // flips
  const std::int64_t first = std::max(low, area.first_ij[0]);
  const std::int64_t last = std::min(high, area.last_ij[0]);
  if (first > last) return;
  row.resize(static_cast<std::size_t>(last - first + 1));
  RescaleRow(slices, k, columns, static_cast<std::size_t>(j), static_cast<std::size_t>(first), row);
  for (std::int32_t i = run.first_i; i <= run.last_i; ++i) {
    const std::int64_t place = PlaceOf(nearest[0], i);
    if (place < first || place > last) continue;
    const auto value = static_cast<double>(row[static_cast<std::size_t>(place - first)]);
    ++sums.values;
    sums.sum += value;
    sums.squares += value * value;
  }
}

}  // namespace

absl::StatusOr<StoredValues> StoredValues::Create(std::span<const StoredSlice> slices,
                                                  const std::array<std::uint32_t, 3>& size_ijk) {
  TS_RETURN_IF_ERROR(CheckSlices(slices, size_ijk));
  TS_ASSIGN_OR_RETURN(std::vector<StoredArea> areas, StoredAreas(slices, size_ijk));
  return StoredValues(slices, size_ijk[0], std::move(areas));
}

absl::StatusOr<ValueStatistics> StoredValues::Measure(std::span<const RowRun> runs,
                                                      const NearestVoxels& nearest,
                                                      const Parallel& parallel) const {
  std::vector<Sums> parts((runs.size() + kRunsOfPart - 1) / kRunsOfPart);
  std::vector<std::vector<float>> rows(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  TS_RETURN_IF_ERROR(
      ParallelFor(parallel, static_cast<std::int64_t>(parts.size()), [&](std::int64_t part, int worker) {
        const auto begin = static_cast<std::size_t>(part) * kRunsOfPart;
        for (const RowRun& run : runs.subspan(begin, std::min(kRunsOfPart, runs.size() - begin))) {
          AddRun(slices_, columns_, areas_, nearest, run, rows[static_cast<std::size_t>(worker)],
                 parts[static_cast<std::size_t>(part)]);
        }
      }));
  Sums all;
  for (const Sums& part : parts) {
    all.values += part.values;
    all.sum += part.sum;
    all.squares += part.squares;
  }
  ValueStatistics statistics;
  if (all.values == 0) return statistics;
  const auto count = static_cast<double>(all.values);
  statistics.values = all.values;
  statistics.mean = all.sum / count;
  statistics.deviation = std::sqrt(std::max(all.squares / count - statistics.mean * statistics.mean, 0.0));
  return statistics;
}

}  // namespace tomoserve::compute
