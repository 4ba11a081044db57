#include "tomoserve/compute/enclosed_air.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <vector>

#include "compute/air_parts.h"
#include "compute/body_slice.h"
#include "compute/stored_slices.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {
namespace {

constexpr double kSmallestPartMl = 200;
constexpr double kSampleMm = 2;
// Air that the edge of the field cuts off, from which on lung is missing: one slice of a lung of 100 cm2 and
// 3 mm; more than an armpit at a cut skin.
constexpr double kCutAirMl = 30;
// Of two lungs the second is larger; a trachea is smaller.
constexpr double kSecondLungShare = 0.2;

std::int64_t StepOf(double spacing_mm) {
  return std::max<std::int64_t>(static_cast<std::int64_t>(std::floor(kSampleMm / spacing_mm)), 1);
}

// Where the patient's axis `lps` (0: left, 1: posterior, 2: superior) is the largest part of the direction.
bool RunsAlong(const volume::LpsVector& direction, std::size_t lps) {
  const auto smaller = [](double a, double b) { return std::abs(a) < std::abs(b); };
  return std::max_element(direction.begin(), direction.end(), smaller) - direction.begin() ==
         static_cast<std::ptrdiff_t>(lps);
}

// Leaves the neck out of [first_k, last_k].
void EndBelowNeck(const AirParts& parts, const volume::Geometry& geometry, double sample_ml,
                  EnclosedAir& air) {
  const volume::LpsVector& along_k = geometry.directions()[2];
  if (!RunsAlong(along_k, 2)) return;
  const double slice_mm = geometry.spacing_mm()[2];
  const bool head_is_last = along_k[2] > 0;
  const std::optional<std::size_t> neck =
      parts.FirstOfNeck(head_is_last, sample_ml * 10 / slice_mm, slice_mm);
  if (!neck) return;
  const auto k = static_cast<std::uint32_t>(*neck);
  if (head_is_last && k > air.first_k) air.last_k = std::min(air.last_k, k - 1);
  if (!head_is_last && k < air.last_k) air.first_k = std::max(air.first_k, k + 1);
}

// Whether the edge of the field of view cuts lung off, on slices [first_k, last_k].
bool IsCut(const AirParts& parts, const std::vector<EdgeOfView>& edges, double sample_ml,
           const EnclosedAir& air) {
  std::uint64_t cut = 0;
  bool touches_body = false;
  std::array<std::uint64_t, 2> largest{};
  for (std::size_t k = air.first_k; k <= air.last_k; ++k) {
    cut += edges[k].cut_air;
    touches_body = touches_body || edges[k].touches_body;
    const auto of_slice = parts.LargestOf(k);
    for (std::size_t n = 0; n < 2; ++n) largest[n] += of_slice[n];
  }
  const bool one_lung = static_cast<double>(largest[1]) < kSecondLungShare * static_cast<double>(largest[0]);
  return static_cast<double>(cut) * sample_ml >= kCutAirMl || (touches_body && one_lung);
}

// Which pixels are looked at.
struct Sampling {
  explicit Sampling(const volume::Geometry& geometry)
      : step_i(std::min<std::int64_t>(StepOf(geometry.spacing_mm()[0]), geometry.size_ijk()[0])),
        step_j(std::min<std::int64_t>(StepOf(geometry.spacing_mm()[1]), geometry.size_ijk()[1])),
        columns(static_cast<std::int32_t>((geometry.size_ijk()[0] + step_i - 1) / step_i)),
        rows(static_cast<std::int32_t>((geometry.size_ijk()[1] + step_j - 1) / step_j)),
        slice_size(static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows)) {}
  std::int64_t step_i;
  std::int64_t step_j;
  std::int32_t columns;
  std::int32_t rows;
  std::size_t slice_size;
};

// What a slice's samples show of its stored image.
struct View {
  View(const StoredArea& area, const Sampling& sampling) {
    std::array<double, 2> radius{};
    for (std::size_t axis = 0; axis < 2; ++axis) {
      const std::int64_t step = axis == 0 ? sampling.step_i : sampling.step_j;
      first[axis] = (area.first_ij[axis] + step - 1) / step;
      count[axis] =
          area.IsEmpty() ? 0 : std::max<std::int64_t>(area.last_ij[axis] / step - first[axis] + 1, 0);
      centre[axis] = area.centre_ij[axis] / static_cast<double>(step) - static_cast<double>(first[axis]);
      radius[axis] = area.size_ij[axis] / 2.0 / static_cast<double>(step);
    }
    if (radius[0] == radius[1]) circle = InnerCircle{centre[1], centre[0], radius[0]};
  }

  bool IsEmpty() const { return count[0] == 0 || count[1] == 0; }
  // The same of a slice's samples.
  Samples Of(const Samples& slice) const {
    return {slice.hu + first[1] * slice.row_step + first[0] * slice.column_step, slice.row_step,
            slice.column_step, static_cast<std::int32_t>(count[1]), static_cast<std::int32_t>(count[0])};
  }

  std::array<std::int64_t, 2> first{};  // along i, j
  std::array<std::int64_t, 2> count{};
  std::array<double, 2> centre{};
  std::optional<InnerCircle> circle;
};

// `samples_of(k, worker)` is called from several threads; what it points to lasts until the worker's next
// call.
template <typename SamplesOf>
absl::StatusOr<EnclosedAir> FindAir(const volume::Geometry& geometry, std::span<const StoredArea> areas,
                                    const Sampling& sampling, const Parallel& parallel,
                                    SamplesOf samples_of) {
  const std::uint32_t slices = geometry.size_ijk()[2];
  const auto columns = static_cast<std::size_t>(sampling.columns);
  const std::size_t slice_size = sampling.slice_size;
  const std::array<std::int64_t, 3> size{slices, sampling.rows, sampling.columns};
  std::vector<std::uint8_t> air(slice_size * slices);
  std::vector<BodySlice> bodies(static_cast<std::size_t>(std::max(parallel.threads, 1)));
  std::vector<EdgeOfView> edges(slices);
  TS_RETURN_IF_ERROR(ParallelFor(parallel, slices, [&](std::int64_t k, int worker) {
    const auto slice = static_cast<std::size_t>(k);
    const View view(areas[slice], sampling);
    if (view.IsEmpty()) return;
    const auto first =
        static_cast<std::size_t>(view.first[1]) * columns + static_cast<std::size_t>(view.first[0]);
    edges[slice] = bodies[static_cast<std::size_t>(worker)].Find(
        view.Of(samples_of(k, worker)), view.circle, air.data() + slice * slice_size + first, columns);
  }));
  TS_ASSIGN_OR_RETURN(const ComponentSet set, FindComponents<std::uint8_t>({air, size}, parallel));
  const auto voxels_per_sample = static_cast<std::uint64_t>(sampling.step_i * sampling.step_j);
  EnclosedAir result;
  std::fill(air.begin(), air.end(), std::uint8_t{0});
  for (const Component& component : set.components) {
    const std::uint64_t count = component.voxels * voxels_per_sample;
    if (static_cast<double>(count) * geometry.voxel_volume_ml() <= kSmallestPartMl) continue;
    const std::span<const RowRun> runs = set.RunsOf(component);
    const auto first = static_cast<std::uint32_t>(runs.front().k);
    const auto last = static_cast<std::uint32_t>(runs.back().k);
    result.first_k = result.voxels == 0 ? first : std::min(result.first_k, first);
    result.last_k = std::max(result.last_k, last);
    result.voxels += count;
    for (const RowRun& run : runs) {
      const std::size_t row =
          static_cast<std::size_t>(run.k) * slice_size + static_cast<std::size_t>(run.j) * columns;
      std::fill_n(air.begin() + static_cast<std::ptrdiff_t>(row) + run.first_i, run.voxels(), 1);
    }
  }
  result.volume_ml = static_cast<double>(result.voxels) * geometry.voxel_volume_ml();
  if (result.voxels == 0) return result;
  TS_ASSIGN_OR_RETURN(const AirParts parts, AirParts::Find({air, size}, parallel));
  const double sample_ml = static_cast<double>(voxels_per_sample) * geometry.voxel_volume_ml();
  result.touches_in_plane_border = IsCut(parts, edges, sample_ml, result);
  EndBelowNeck(parts, geometry, sample_ml, result);
  return result;
}

}  // namespace

absl::StatusOr<EnclosedAir> FindEnclosedAir(const at::Tensor& hu, const volume::Geometry& geometry,
                                            std::span<const StoredArea> areas, const Parallel& parallel) {
  const std::array<std::uint32_t, 3>& size = geometry.size_ijk();
  if (!hu.is_cpu() || hu.scalar_type() != at::kFloat || !hu.is_contiguous() || hu.dim() != 3 ||
      hu.size(0) != size[2] || hu.size(1) != size[1] || hu.size(2) != size[0] || areas.size() != size[2]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RESAMPLE_SHAPE", "",
                       "the volume is not a contiguous float32 array of the geometry's size");
  }
  const Sampling sampling(geometry);
  const float* const voxels = hu.const_data_ptr<float>();
  return Fenced([&] {
    return FindAir(geometry, areas, sampling, parallel, [&](std::int64_t k, int) {
      return Samples{voxels + k * hu.stride(0), sampling.step_j * hu.stride(1), sampling.step_i,
                     sampling.rows, sampling.columns};
    });
  });
}

absl::StatusOr<EnclosedAir> FindEnclosedAir(std::span<const StoredSlice> slices,
                                            const volume::Geometry& geometry, const Parallel& parallel) {
  TS_ASSIGN_OR_RETURN(const std::vector<StoredArea> areas, StoredAreas(slices, geometry.size_ijk()));
  const Sampling sampling(geometry);
  return Fenced([&] {
    std::vector<std::vector<float>> rescaled(static_cast<std::size_t>(std::max(parallel.threads, 1)),
                                             std::vector<float>(sampling.slice_size));
    return FindAir(geometry, areas, sampling, parallel, [&](std::int64_t k, int worker) {
      std::vector<float>& samples = rescaled[static_cast<std::size_t>(worker)];
      RescaleSamples(slices, static_cast<std::size_t>(k), geometry.size_ijk()[0],
                     static_cast<std::size_t>(sampling.step_j), static_cast<std::size_t>(sampling.step_i),
                     samples);
      return Samples{samples.data(), sampling.columns, 1, sampling.rows, sampling.columns};
    });
  });
}

}  // namespace tomoserve::compute
