#include "engine/window_shape.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_join.h"
#include "tomoserve/base/status.h"

namespace tomoserve::engine {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 32;

absl::Status Invalid(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

bool Slices(const v1::Recipe& recipe) { return recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES; }

// Along axis 0 = x or 1 = y.
std::int64_t SlicesWarmUpSize(const v1::Recipe& recipe, int axis) {
  std::int64_t size = kSlicesWarmUpVoxels;
  if (const auto& spacing_mm = recipe.preparation().spacing().spacing_mm();
      axis < spacing_mm.size() && spacing_mm[axis] > kSlicesWarmUpMm / static_cast<double>(size)) {
    size = static_cast<std::int64_t>(std::ceil(kSlicesWarmUpMm / spacing_mm[axis]));
  }
  const std::int64_t multiple = std::max<std::int64_t>(recipe.windows().xy_multiple_of(), 1);
  return (size + multiple - 1) / multiple * multiple;
}

// Index of z in the network's tensor; only with three spatial axes.
std::size_t ZAxis(const v1::Recipe& recipe) { return recipe.network().axes() == v1::TENSOR_AXES_ZYX ? 2 : 4; }

}  // namespace

absl::StatusOr<std::vector<std::int64_t>> WindowShape(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  const v1::Windows& windows = recipe.windows();
  if (network.input_channels() == 0) return Invalid("network.input_channels", "at least one channel");
  if (network.output_channels() == 0) return Invalid("network.output_channels", "at least one channel");
  if (network.spatial_dims() != 2 && network.spatial_dims() != 3) {
    return Invalid("network.spatial_dims", "2 or 3");
  }
  if (network.axes() != v1::TENSOR_AXES_XYZ && network.axes() != v1::TENSOR_AXES_ZYX) {
    return Invalid("network.axes", "not stated");
  }
  std::array<std::int64_t, 3> xyz{};
  if (Slices(recipe)) {
    xyz[0] = SlicesWarmUpSize(recipe, 0);
    xyz[1] = SlicesWarmUpSize(recipe, 1);
    xyz[2] = std::int64_t{windows.context().before()} + 1 + windows.context().after();
  } else {
    if (windows.size_size() != 3) return Invalid("windows.size", "three sizes: x, y, z");
    std::copy(windows.size().begin(), windows.size().end(), xyz.begin());
  }
  if (network.spatial_dims() == 2) xyz[2] = 1;
  std::int64_t elements = network.input_channels();
  for (const std::int64_t size : xyz) {
    if (size < 1 || size > kMaxElements || elements * size > kMaxElements) {
      return Invalid("windows.size", "a window has between 1 and 2^32 values");
    }
    elements *= size;
  }
  std::vector<std::int64_t> shape = {1, network.input_channels()};
  if (network.axes() == v1::TENSOR_AXES_ZYX) std::reverse(xyz.begin(), xyz.end());
  if (network.spatial_dims() == 3) {
    shape.insert(shape.end(), xyz.begin(), xyz.end());
  } else if (network.axes() == v1::TENSOR_AXES_ZYX) {
    shape.insert(shape.end(), {xyz[1], xyz[2]});
  } else {
    shape.insert(shape.end(), {xyz[0], xyz[1]});
  }
  return shape;
}

bool OutputFits(const v1::Recipe& recipe, std::span<const std::int64_t> input,
                std::span<const std::int64_t> output) {
  if (output.size() != input.size() || output.size() < 2) return false;
  if (output[0] != input[0] || output[1] != recipe.network().output_channels()) return false;
  for (std::size_t axis = 2; axis < output.size(); ++axis) {
    const bool answers_one_slice = Slices(recipe) && output.size() == 5 && axis == ZAxis(recipe);
    if (output[axis] != (answers_one_slice ? 1 : input[axis])) return false;
  }
  return true;
}

std::string ShapeText(std::span<const std::int64_t> shape) { return absl::StrJoin(shape, "x"); }

}  // namespace tomoserve::engine
