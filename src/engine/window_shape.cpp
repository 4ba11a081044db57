#include "engine/window_shape.h"

#include <array>

#include "absl/strings/str_join.h"
#include "tomoserve/base/status.h"
#include "tomoserve/models/tensor_axes.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::engine {
namespace {

constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 32;

absl::Status Invalid(std::string_view field, std::string_view text) {
  return base::Error(absl::StatusCode::kInvalidArgument, "RECIPE_INVALID", field, text);
}

bool Slices(const v1::Recipe& recipe) { return recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES; }

// Dimension of z in the network's tensor; only with three spatial axes.
std::size_t ZDimension(const v1::Recipe& recipe) {
  return 2 + models::DimensionOf(models::SpatialAxes(recipe.network()), 2);
}

}  // namespace

absl::StatusOr<std::vector<std::int64_t>> WindowShape(const v1::Recipe& recipe) {
  const v1::Network& network = recipe.network();
  if (network.input_channels() == 0) return Invalid("network.input_channels", "at least one channel");
  if (network.output_channels() == 0) return Invalid("network.output_channels", "at least one channel");
  if (network.spatial_dims() != 2 && network.spatial_dims() != 3) {
    return Invalid("network.spatial_dims", "2 or 3");
  }
  const std::vector<std::size_t> axes = models::SpatialAxes(network);
  if (axes.empty()) return Invalid("network.axes", "not stated");
  if (!Slices(recipe) && recipe.windows().size_size() != 3) {
    return Invalid("windows.size", "three sizes: x, y, z");
  }
  const std::array<std::uint64_t, 3> size = models::WarmUpSize(recipe);
  std::vector<std::int64_t> shape = {1, network.input_channels()};
  std::uint64_t elements = network.input_channels();
  for (const std::size_t axis : axes) {
    if (size[axis] > kMaxElements || elements * size[axis] > kMaxElements) {
      return Invalid("windows.size", "a window has at most 2^32 values");
    }
    elements *= size[axis];
    shape.push_back(static_cast<std::int64_t>(size[axis]));
  }
  return shape;
}

bool OutputFits(const v1::Recipe& recipe, std::span<const std::int64_t> input,
                std::span<const std::int64_t> output) {
  if (output.size() != input.size() || output.size() < 2) return false;
  if (output[0] != input[0] || output[1] != recipe.network().output_channels()) return false;
  for (std::size_t axis = 2; axis < output.size(); ++axis) {
    const bool answers_one_slice = Slices(recipe) && output.size() == 5 && axis == ZDimension(recipe);
    if (output[axis] != (answers_one_slice ? 1 : input[axis])) return false;
  }
  return true;
}

bool MapFits(const v1::Recipe& recipe, std::size_t index, std::span<const std::int64_t> input,
             std::span<const std::int64_t> output) {
  constexpr std::int64_t kDeltas = 6;
  const v1::DetectBoxes& boxes = recipe.decode(0).detect_boxes();
  const auto levels = static_cast<std::size_t>(boxes.levels_size());
  const v1::BoxLevel& level = boxes.levels(static_cast<int>(index % levels));
  const std::int64_t values = index < levels ? std::int64_t{recipe.network().output_channels()} : kDeltas;
  if (output.size() != 5 || input.size() != 5 || level.stride_size() != 3) return false;
  if (output[0] != input[0] || output[1] != boxes.anchors_size() * values) return false;
  for (int axis = 0; axis < 3; ++axis) {
    const auto dimension = static_cast<std::size_t>(axis + 2);
    if (output[dimension] * level.stride(axis) != input[dimension]) return false;
  }
  return true;
}

std::string ShapeText(std::span<const std::int64_t> shape) { return absl::StrJoin(shape, "x"); }

}  // namespace tomoserve::engine
