// Voxels of a recipe's windows.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "tomoserve/v1/recipe.pb.h"

namespace tomoserve::models {

// In-plane size of the window that a network of whole slices is warmed up with, where the real one depends on
// the volume: so many voxels, or where the recipe resamples at most so many millimetres.
inline constexpr std::uint64_t kSliceWarmUpVoxels = 512;
inline constexpr double kSliceWarmUpMm = 400;
// The same along an axis that a network of three dimensions sees whole: small, because passes over a volume
// can take minutes, and a multiple of what networks need.
inline constexpr std::uint64_t kWholeWarmUpVoxels = 64;

// Most voxels of a window, and of a volume that a network sees whole: 512 MiB of float32 per channel.
inline constexpr std::uint64_t kMaxWindowVoxels = std::uint64_t{1} << 27;

// Narrowest Gaussian that windows are weighted with, as a fraction of their size. Squares of much smaller
// ones are 0, and weights no numbers.
inline constexpr double kMinSigmaScale = 1e-3;

// Whether the window spans the whole prepared volume along `axis` (0 = x, 1 = y, 2 = z).
inline bool IsWholeAxis(const v1::Windows& windows, std::size_t axis) {
  if (windows.layout() == v1::WINDOW_LAYOUT_SLICES) return axis < 2;
  return static_cast<int>(axis) < windows.size_size() && windows.size(static_cast<int>(axis)) == 0;
}

inline bool HasWholeAxis(const v1::Windows& windows) {
  return IsWholeAxis(windows, 0) || IsWholeAxis(windows, 1) || IsWholeAxis(windows, 2);
}

// Size along x, y, z of the window that the recipe's network is warmed up with: the recipe's own, and along
// whole axes one of the sizes above. Sizes that are missing count as 0.
inline std::array<std::uint64_t, 3> WarmUpSize(const v1::Recipe& recipe) {
  const v1::Windows& windows = recipe.windows();
  const bool slices = windows.layout() == v1::WINDOW_LAYOUT_SLICES;
  const auto& spacing_mm = recipe.preparation().spacing().spacing_mm();
  std::array<std::uint64_t, 3> size{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const int number = static_cast<int>(axis);
    if (!IsWholeAxis(windows, axis)) {
      if (slices) {
        size[axis] = std::uint64_t{windows.context().before()} + 1 + windows.context().after();
      } else if (number < windows.size_size()) {
        size[axis] = windows.size(number);
      }
      continue;
    }
    if (!slices && recipe.network().spatial_dims() != 2) {
      size[axis] = kWholeWarmUpVoxels;
      continue;
    }
    size[axis] = kSliceWarmUpVoxels;
    if (number < spacing_mm.size() &&
        spacing_mm[number] > kSliceWarmUpMm / static_cast<double>(kSliceWarmUpVoxels)) {
      size[axis] = static_cast<std::uint64_t>(std::ceil(kSliceWarmUpMm / spacing_mm[number]));
    }
    const std::uint64_t multiple = std::max<std::uint64_t>(windows.xy_multiple_of(), 1);
    size[axis] = (size[axis] + multiple - 1) / multiple * multiple;
  }
  return size;
}

// What windows are cut from: the prepared volume, which a detector pads at its end.
inline std::array<std::uint64_t, 3> PaddedSize(const v1::Recipe& recipe,
                                               const std::array<std::uint64_t, 3>& prepared_xyz) {
  std::array<std::uint64_t, 3> size = prepared_xyz;
  if (recipe.decode().empty()) return size;
  const auto& multiples = recipe.decode(0).detect_boxes().pad_to_multiple_of();
  for (int axis = 0; axis < multiples.size() && axis < 3; ++axis) {
    std::uint64_t& n = size[static_cast<std::size_t>(axis)];
    const std::uint64_t multiple = std::max<std::uint64_t>(multiples[axis], 1);
    n = (n + multiple - 1) / multiple * multiple;
  }
  return size;
}

// Whether a detector sees a prepared volume of this size whole, whatever its windows.
inline bool SeesWhole(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  if (recipe.decode().empty()) return false;
  double voxels = 1;  // sizes may multiply to more than 64 bits
  for (const std::uint64_t n : prepared_xyz) voxels *= static_cast<double>(n);
  return voxels < static_cast<double>(recipe.decode(0).detect_boxes().whole_below_voxels());
}

// Size along x, y, z of the recipe's windows on a prepared volume of this size, padding of slices left out.
inline std::array<std::uint64_t, 3> WindowSize(const v1::Recipe& recipe,
                                               const std::array<std::uint64_t, 3>& prepared_xyz) {
  if (SeesWhole(recipe, prepared_xyz)) return PaddedSize(recipe, prepared_xyz);
  std::array<std::uint64_t, 3> size = WarmUpSize(recipe);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (IsWholeAxis(recipe.windows(), axis)) size[axis] = prepared_xyz[axis];
  }
  return size;
}

// How many times as large as at warm-up a window on such a volume is: what a pass takes grows with it.
inline double WarmUpRatio(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  const std::array<std::uint64_t, 3> warm_up = WarmUpSize(recipe);
  const std::array<std::uint64_t, 3> size = WindowSize(recipe, prepared_xyz);
  double ratio = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    if (warm_up[axis] > 0) ratio *= static_cast<double>(size[axis]) / static_cast<double>(warm_up[axis]);
  }
  return ratio;
}

// Forward passes of one window: each subset of the mirrored axes is one.
inline std::uint32_t PassesPerWindow(const v1::Recipe& recipe) {
  // A recipe that passed its checks names each of three axes at most once.
  return 1u << std::min(recipe.network().mirror_axes_size(), 3);
}

// Voxels of a window on such a volume where its size depends on the volume; else 0. A detector's are counted
// with its maps, see HeadValues.
inline std::uint64_t WholeWindowVoxels(const v1::Recipe& recipe,
                                       const std::array<std::uint64_t, 3>& prepared_xyz) {
  if (!HasWholeAxis(recipe.windows())) return 0;
  const std::array<std::uint64_t, 3> size = WindowSize(recipe, prepared_xyz);
  return size[0] * size[1] * size[2];
}

}  // namespace tomoserve::models
