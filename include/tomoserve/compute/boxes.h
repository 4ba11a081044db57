// Boxes of an anchor-based detector, as MONAI's RetinaNet computes them, in float32. Positions are corner
// coordinates in voxels of the prepared grid's x, y, z, with voxel centres at integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tomoserve/compute/windows.h"

namespace tomoserve::compute {

// Opposite corners.
struct Box {
  std::array<float, 3> low{};
  std::array<float, 3> high{};
  bool operator==(const Box&) const = default;
};

// A box with the class that it is of and how sure the network is.
struct Detection {
  Box box;
  float score = 0;
  std::uint32_t class_index = 0;
  bool operator==(const Detection&) const = default;
};

// What the regression head says of a box: shift of the centre along x, y, z in sizes of the anchor, then the
// logarithm of its size in sizes of the anchor.
using BoxDeltas = std::array<float, 6>;

// An anchor around the origin: corners at half of size times scale, each rounded half to even.
Box AnchorOf(const std::array<double, 3>& size, double scale);

// The anchor around `centre`, moved and resized; sizes grow by 1000 / 16 at most.
Box DecodeBox(const Box& anchor, const std::array<std::int64_t, 3>& centre, const BoxDeltas& deltas);

// The part of a box in [0, size]; none where a side of it is shorter than a voxel, or no number.
std::optional<Box> ClipBox(const Box& box, const Xyz& size);

// Volume of what two boxes share by that of what either covers.
float IntersectionOverUnion(const Box& a, const Box& b);

// Non-maximum suppression, each class on its own: the highest score first, equal ones in their order; what
// overlaps a kept one by more than `iou_above` is dropped. At most `most`, highest score first.
std::vector<Detection> SuppressOverlaps(std::vector<Detection> candidates, float iou_above, std::size_t most);

}  // namespace tomoserve::compute
