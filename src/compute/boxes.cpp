#include "tomoserve/compute/boxes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tomoserve::compute {
namespace {

// MONAI's BoxCoder: no box is more than 1000 / 16 times its anchor.
const float kLargestLogSize = static_cast<float>(std::log(1000.0 / 16.0));
// Shortest side of a box, voxels.
constexpr float kShortestSide = 1;

float VolumeOf(const Box& box) {
  float volume = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) volume *= box.high[axis] - box.low[axis];
  return volume;
}

}  // namespace

Box AnchorOf(const std::array<double, 3>& size, double scale) {
  Box anchor;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const float half = static_cast<float>(size[axis]) * static_cast<float>(scale) / 2;
    anchor.high[axis] = std::nearbyint(half);  // half to even
    anchor.low[axis] = -anchor.high[axis];
  }
  return anchor;
}

Box DecodeBox(const Box& anchor, const std::array<std::int64_t, 3>& centre, const BoxDeltas& deltas) {
  Box box;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto at = static_cast<float>(centre[axis]);
    const float low = at + anchor.low[axis];
    const float size = at + anchor.high[axis] - low;
    const float middle = deltas[axis] * size + (low + size / 2);
    const float half = std::exp(std::min(deltas[axis + 3], kLargestLogSize)) * size / 2;
    box.low[axis] = middle - half;
    box.high[axis] = middle + half;
  }
  return box;
}

std::optional<Box> ClipBox(const Box& box, const Xyz& size) {
  Box clipped;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const auto end = static_cast<float>(size[axis]);
    clipped.low[axis] = std::clamp(box.low[axis], 0.0F, end);
    clipped.high[axis] = std::clamp(box.high[axis], 0.0F, end);
    if (!(clipped.high[axis] >= clipped.low[axis] + kShortestSide)) return std::nullopt;
  }
  return clipped;
}

float IntersectionOverUnion(const Box& a, const Box& b) {
  float shared = 1;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    shared *= std::max(std::min(a.high[axis], b.high[axis]) - std::max(a.low[axis], b.low[axis]), 0.0F);
  }
  const float covered = VolumeOf(a) + VolumeOf(b) - shared;
  return shared / (covered + std::numeric_limits<float>::epsilon());
}

std::vector<Detection> SuppressOverlaps(std::vector<Detection> candidates, float iou_above,
                                        std::size_t most) {
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Detection& a, const Detection& b) { return a.score > b.score; });
  std::vector<Detection> kept;
  for (const Detection& candidate : candidates) {
    if (kept.size() == most) break;
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Detection& better) {
      return better.class_index == candidate.class_index &&
             IntersectionOverUnion(better.box, candidate.box) > iou_above;
    });
    if (!covered) kept.push_back(candidate);
  }
  return kept;
}

}  // namespace tomoserve::compute
