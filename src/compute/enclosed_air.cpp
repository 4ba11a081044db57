#include "tomoserve/compute/enclosed_air.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "tomoserve/base/status.h"
#include "tomoserve/compute/components.h"
#include "tomoserve/compute/fence.h"

namespace tomoserve::compute {
namespace {

constexpr float kAirBelowHu = -400;
constexpr double kSmallestPartMl = 200;
constexpr double kSampleMm = 2;

// Pixels of one slice, rows x columns, with working space.
class SliceMask {
 public:
  SliceMask(std::int32_t rows, std::int32_t columns)
      : rows_(rows),
        columns_(columns),
        marks_(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns)) {}

  // Marks air inside the body as 1 in `air`, else 0.
  void Find(const float* hu, std::int64_t row_step, std::int64_t column_step, std::uint8_t* air) {
    std::size_t at = 0;
    for (std::int32_t j = 0; j < rows_; ++j) {
      const float* const row = hu + j * row_step;
      for (std::int32_t i = 0; i < columns_; ++i, ++at) {
        air[at] = row[i * column_step] < kAirBelowHu ? 1 : 0;
        marks_[at] = air[at] != 0 ? kOpen : kTissue;
      }
    }
    KeepLargestTissue();
    // What the border reaches is outside.
    for (std::int32_t i = 0; i < columns_; ++i) {
      FloodOpen(Index(0, i));
      FloodOpen(Index(rows_ - 1, i));
    }
    for (std::int32_t j = 0; j < rows_; ++j) {
      FloodOpen(Index(j, 0));
      FloodOpen(Index(j, columns_ - 1));
    }
    for (at = 0; at < marks_.size(); ++at) air[at] = air[at] != 0 && marks_[at] == kOpen ? 1 : 0;
  }

 private:
  enum Mark : std::uint8_t { kOpen, kTissue, kCounted, kBody, kOutside };

  std::size_t Index(std::int32_t j, std::int32_t i) const {
    return static_cast<std::size_t>(j) * static_cast<std::size_t>(columns_) + static_cast<std::size_t>(i);
  }

  // Turns the 4-connected region of `from` around `seed` into `to`; returns its pixels.
  std::size_t Flood(std::size_t seed, Mark from, Mark to) {
    const auto columns = static_cast<std::size_t>(columns_);
    const auto visit = [&](std::size_t at) {
      if (marks_[at] != from) return;
      marks_[at] = to;
      stack_.push_back(at);
    };
    std::size_t pixels = 0;
    visit(seed);
    while (!stack_.empty()) {
      const std::size_t at = stack_.back();
      stack_.pop_back();
      ++pixels;
      const std::size_t i = at % columns;
      if (i > 0) visit(at - 1);
      if (i + 1 < columns) visit(at + 1);
      if (at >= columns) visit(at - columns);
      if (at + columns < marks_.size()) visit(at + columns);
    }
    return pixels;
  }

  void FloodOpen(std::size_t seed) {
    if (marks_[seed] == kOpen) Flood(seed, kOpen, kOutside);
  }

  // The largest tissue region becomes body, all others open (air passes around a table).
  void KeepLargestTissue() {
    std::size_t largest = 0;
    std::size_t seed_of_largest = 0;
    for (std::size_t at = 0; at < marks_.size(); ++at) {
      if (marks_[at] != kTissue) continue;
      const std::size_t pixels = Flood(at, kTissue, kCounted);
      if (pixels > largest) {
        largest = pixels;
        seed_of_largest = at;
      }
    }
    if (largest > 0) Flood(seed_of_largest, kCounted, kBody);
    std::replace(marks_.begin(), marks_.end(), kCounted, kOpen);
  }

  std::int32_t rows_;
  std::int32_t columns_;
  std::vector<Mark> marks_;
  std::vector<std::size_t> stack_;
};

std::int64_t StepOf(double spacing_mm) {
  return std::max<std::int64_t>(static_cast<std::int64_t>(std::floor(kSampleMm / spacing_mm)), 1);
}

}  // namespace

absl::StatusOr<EnclosedAir> FindEnclosedAir(const at::Tensor& hu, const volume::Geometry& geometry,
                                            const Parallel& parallel) {
  const std::array<std::uint32_t, 3>& size = geometry.size_ijk();
  if (!hu.is_cpu() || hu.scalar_type() != at::kFloat || !hu.is_contiguous() || hu.dim() != 3 ||
      hu.size(0) != size[2] || hu.size(1) != size[1] || hu.size(2) != size[0]) {
    return base::Error(absl::StatusCode::kInvalidArgument, "RESAMPLE_SHAPE", "",
                       "the volume is not a contiguous float32 array of the geometry's size");
  }
  const std::int64_t step_i = std::min<std::int64_t>(StepOf(geometry.spacing_mm()[0]), size[0]);
  const std::int64_t step_j = std::min<std::int64_t>(StepOf(geometry.spacing_mm()[1]), size[1]);
  const auto columns = static_cast<std::int32_t>((size[0] + step_i - 1) / step_i);
  const auto rows = static_cast<std::int32_t>((size[1] + step_j - 1) / step_j);
  const std::size_t slice_size = static_cast<std::size_t>(columns) * static_cast<std::size_t>(rows);
  return Fenced([&]() -> absl::StatusOr<EnclosedAir> {
    std::vector<std::uint8_t> air(slice_size * size[2]);
    const float* const voxels = hu.const_data_ptr<float>();
    std::vector<SliceMask> masks(static_cast<std::size_t>(std::max(parallel.threads, 1)),
                                 SliceMask(rows, columns));
    TS_RETURN_IF_ERROR(ParallelFor(parallel, size[2], [&](std::int64_t k, int worker) {
      masks[static_cast<std::size_t>(worker)].Find(voxels + k * hu.stride(0), step_j * hu.stride(1), step_i,
                                                   air.data() + static_cast<std::size_t>(k) * slice_size);
    }));
    TS_ASSIGN_OR_RETURN(const ComponentSet set,
                        FindComponents<std::uint8_t>({air, {size[2], rows, columns}}, parallel));
    const auto voxels_per_sample = static_cast<std::uint64_t>(step_i * step_j);
    EnclosedAir result;
    for (const Component& component : set.components) {
      const std::uint64_t count = component.voxels * voxels_per_sample;
      if (static_cast<double>(count) * geometry.voxel_volume_ml() <= kSmallestPartMl) continue;
      const std::span<const RowRun> runs = set.RunsOf(component);
      const auto first = static_cast<std::uint32_t>(runs.front().k);
      const auto last = static_cast<std::uint32_t>(runs.back().k);
      result.first_k = result.voxels == 0 ? first : std::min(result.first_k, first);
      result.last_k = std::max(result.last_k, last);
      result.voxels += count;
    }
    result.volume_ml = static_cast<double>(result.voxels) * geometry.voxel_volume_ml();
    return result;
  });
}

}  // namespace tomoserve::compute
