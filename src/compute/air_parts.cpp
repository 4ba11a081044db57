#include "compute/air_parts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

// Upper limits of the normal adult trachea are 25 mm (coronal) and 27 mm (sagittal), an ellipse of 5.3 cm2
// (Breatnach, Abbott, Fraser, AJR 1984;142:903); on CT it has 2.72 +- 0.33 cm2 in men, 1.94 +- 0.35 cm2 in
// women (Vock et al., J Comput Assist Tomogr 1984;8:1076).
constexpr double kLargestTracheaCm2 = 5.5;
// How far a tube is followed. A lung is far larger than a trachea 20 mm below its apex; the trachea keeps its
// width and runs beside the lungs for some 50 mm below theirs.
constexpr double kTubeMm = 20;
// Pharynx, mouth and sinuses hold less; a lung that a gas-filled bowel hides holds more.
constexpr double kMostBeyondNeckMl = 200;

constexpr double kTolerance = 1e-6;

}  // namespace

absl::StatusOr<AirParts> AirParts::Find(const LabelGrid<const std::uint8_t>& mask, const Parallel& parallel) {
  const auto [slices, rows, columns] = mask.size_kji;
  const auto slice_size = static_cast<std::size_t>(rows * columns);
  AirParts parts;
  parts.slices_.resize(static_cast<std::size_t>(slices));
  std::vector<absl::Status> failures(static_cast<std::size_t>(slices));
  TS_RETURN_IF_ERROR(ParallelFor(parallel, slices, [&, rows = rows, columns = columns](std::int64_t k, int) {
    const auto slice = static_cast<std::size_t>(k);
    absl::StatusOr<ComponentSet> set = FindComponents<std::uint8_t>(
        {mask.voxels.subspan(slice * slice_size, slice_size), {1, rows, columns}}, {1, parallel.cancelled});
    if (set.ok()) {
      parts.slices_[slice] = *std::move(set);
    } else {
      failures[slice] = set.status();
    }
  }));
  for (absl::Status& failure : failures) TS_RETURN_IF_ERROR(std::move(failure));
  return parts;
}

std::uint64_t AirParts::SamplesOf(std::size_t k) const {
  std::uint64_t samples = 0;
  for (const Component& part : slices_[k].components) samples += part.voxels;
  return samples;
}

std::array<std::uint64_t, 2> AirParts::LargestOf(std::size_t k) const {
  std::array<std::uint64_t, 2> largest{};
  for (const Component& part : slices_[k].components) {
    if (part.voxels > largest[0]) {
      largest = {part.voxels, largest[0]};
    } else {
      largest[1] = std::max(largest[1], part.voxels);
    }
  }
  return largest;
}

std::uint64_t AirParts::PartsBeside(std::span<const RowRun> runs, std::size_t k,
                                    std::vector<RowRun>& parts) const {
  const ComponentSet& slice = slices_[k];
  parts.clear();
  std::uint64_t samples = 0;
  for (const Component& part : slice.components) {
    const std::span<const RowRun> own = slice.RunsOf(part);
    const bool beside = std::any_of(own.begin(), own.end(), [&](const RowRun& a) {
      return std::any_of(runs.begin(), runs.end(), [&](const RowRun& b) {
        return a.j == b.j && a.first_i <= b.last_i && b.first_i <= a.last_i;
      });
    });
    if (!beside) continue;
    samples += part.voxels;
    parts.insert(parts.end(), own.begin(), own.end());
  }
  return samples;
}

bool AirParts::IsTube(std::int64_t k, std::int64_t to_feet, double sample_cm2, double slice_mm) const {
  const auto fits = [&](std::uint64_t samples) {
    return samples > 0 && static_cast<double>(samples) * sample_cm2 <= kLargestTracheaCm2;
  };
  const ComponentSet& end = slices_[static_cast<std::size_t>(k)];
  if (end.components.size() != 1 || !fits(end.components.front().voxels)) return false;
  std::vector<RowRun> tube = end.runs;
  std::vector<RowRun> next;
  for (double length_mm = 0; length_mm + kTolerance < kTubeMm; length_mm += slice_mm) {
    k += to_feet;
    if (k < 0 || k >= static_cast<std::int64_t>(slices_.size())) return false;
    if (!fits(PartsBeside(tube, static_cast<std::size_t>(k), next))) return false;
    tube.swap(next);
  }
  return true;
}

std::optional<std::size_t> AirParts::FirstOfNeck(bool head_is_last, double sample_cm2,
                                                 double slice_mm) const {
  const auto count = static_cast<std::int64_t>(slices_.size());
  std::int64_t most = 0;
  std::vector<std::uint64_t> samples;
  for (std::int64_t k = 0; k < count; ++k) {
    samples.push_back(SamplesOf(static_cast<std::size_t>(k)));
    if (samples.back() > samples[static_cast<std::size_t>(most)]) most = k;
  }
  const std::int64_t to_head = head_is_last ? 1 : -1;
  std::int64_t k = most;
  while (k >= 0 && k < count && !IsTube(k, -to_head, sample_cm2, slice_mm)) k += to_head;
  if (k < 0 || k >= count) return std::nullopt;
  const auto neck = static_cast<std::size_t>(k);
  std::uint64_t beyond = 0;
  for (; k >= 0 && k < count; k += to_head) beyond += samples[static_cast<std::size_t>(k)];
  // 1 cm2 over 1 mm is 0.1 ml.
  if (static_cast<double>(beyond) * sample_cm2 * slice_mm / 10 > kMostBeyondNeckMl) return std::nullopt;
  return neck;
}

}  // namespace tomoserve::compute
