#include "tomoserve/models/window_bytes.h"

#include <algorithm>

#include "tomoserve/models/parts.h"
#include "tomoserve/models/recipe.h"
#include "tomoserve/models/window_size.h"

namespace tomoserve::models {
namespace {

constexpr double kFloat = sizeof(float);
constexpr double kDeltas = 6;
// What no device has; a number of bytes that fits into 64 bits.
constexpr double kMost = static_cast<double>(std::uint64_t{1} << 60);

// As doubles: what fields of a recipe multiply to need not fit into 64 bits.
double VoxelsOf(const std::array<std::uint64_t, 3>& size) {
  double voxels = 1;
  for (const std::uint64_t n : size) voxels *= static_cast<double>(n);
  return voxels;
}

double ValuesOfMaps(const v1::Recipe& recipe, const v1::DetectBoxes& boxes, double window_voxels) {
  double values = 0;
  for (const v1::BoxLevel& level : boxes.levels()) {
    double stride = 1;
    for (const std::uint32_t of_axis : level.stride()) stride *= std::max(1.0, static_cast<double>(of_axis));
    values += window_voxels / stride * boxes.anchors_size() * (recipe.network().output_channels() + kDeltas);
  }
  return values;
}

double Answer(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  std::array<std::uint64_t, 3> size = WindowSize(recipe, prepared_xyz);
  if (const v1::DetectBoxes* boxes = DetectorOf(recipe)) return ValuesOfMaps(recipe, *boxes, VoxelsOf(size));
  if (recipe.windows().layout() == v1::WINDOW_LAYOUT_SLICES) size[2] = 1;
  return VoxelsOf(size) * MostOutputChannels(recipe);
}

std::uint64_t Bytes(double bytes) { return static_cast<std::uint64_t>(std::clamp(bytes, 0.0, kMost)); }

}  // namespace

std::uint64_t AnswerValues(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz) {
  return Bytes(Answer(recipe, prepared_xyz));
}

std::uint64_t WindowBytes(const v1::Recipe& recipe, const std::array<std::uint64_t, 3>& prepared_xyz,
                          std::uint64_t windows, const WindowPasses& passes) {
  if (windows == 0) return 0;
  const double answer = Answer(recipe, prepared_xyz);
  const auto lanes = static_cast<double>(std::max<std::uint64_t>(passes.lanes, 1));
  const double bucket = static_cast<double>(std::max<std::uint64_t>(passes.bucket, 1));
  // One is computed while the others wait for it. A batch of answers lives as long as one of them.
  const double waiting =
      std::min(static_cast<double>(windows - 1), static_cast<double>(passes.ahead) + bucket - 1);
  const double at_a_time = std::min(static_cast<double>(windows), lanes * bucket);
  double bytes = waiting * answer * kFloat;
  if (PassesPerWindow(recipe) > 1) {
    const double window =
        VoxelsOf(WindowSize(recipe, prepared_xyz)) * static_cast<double>(std::max(1, recipe.inputs_size()));
    // The sum; the mirrored window while the network computes, or its answer mirrored back afterwards.
    bytes += at_a_time * (answer + std::max(window, answer)) * kFloat;
  }
  const double busy = std::min(1.0, static_cast<double>(windows) / lanes);
  const double more = WarmUpRatio(recipe, prepared_xyz) * busy - 1;
  bytes += std::max(0.0, more) * static_cast<double>(passes.forward_bytes);
  return Bytes(bytes);
}

}  // namespace tomoserve::models
