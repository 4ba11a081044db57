// Shapes in patient space (LPS, mm) and how they are painted, one axial plane at a time. Private to the room.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "tomoserve/phantom/phantom.h"

namespace tomoserve::phantom {

using Point = std::array<double, 3>;

// How a shape meets what was painted before it.
enum class Paint {
  kTissue,  // replaces, and takes its place away from the lung
  kLung,    // replaces, and is lung
  kInLung,  // replaces lung only
  kHaze,    // replaces what is thinner in the lung: ground glass, through which vessels are seen
};

// Axis-parallel ellipsoid; an infinite half axis makes it a cylinder.
struct Ellipsoid {
  Point centre{};
  Point half{};
  double value = 0;
  double value_per_mm_y = 0;  // change of the value towards posterior
  Paint paint = Paint::kTissue;
};

// Tube with round ends.
struct Tube {
  Point from{};
  Point to{};
  double radius = 0;
  double value = 0;
  Paint paint = Paint::kTissue;
};

// Axis-parallel box.
struct Box {
  Point min{};
  Point max{};
  double value = 0;
};

// Sphere whose edge voxels get exactly the share of it that they hold (5^3 samples each).
struct Sphere {
  Point centre{};
  double radius = 0;
  double value = 0;
  Paint paint = Paint::kTissue;
  std::uint8_t label = 0;  // what Plane::label becomes where at least half of a voxel is this in lung
};

// Round flat plate in any direction, painted as kInLung.
struct Disc {
  Point centre{};
  Point normal{};  // unit length
  double radius = 0;
  double thickness = 0;
  double value = 0;
};

// Painted in this order.
struct Scene {
  double background = 0;
  std::vector<Box> boxes;
  std::vector<Ellipsoid> ellipsoids;
  std::vector<Tube> tubes;
  std::vector<Disc> discs;
  std::vector<Sphere> spheres;
};

// Voxel centres along one axis, ascending.
struct Axis {
  double first = 0;
  double step = 1;
  std::size_t count = 0;
  double at(std::size_t n) const { return first + step * static_cast<double>(n); }
};

// One axial plane of a scene: values [y][x], how much of each voxel is lung, and the label of the last sphere
// that has one.
struct Plane {
  std::vector<float> value;
  std::vector<float> lung;
  std::vector<std::uint8_t> label;
};

// Paints the plane at `z`. `blur_mm`: width of the ramp at edges. `dz`: slice spacing.
void PaintPlane(const Scene& scene, const Axis& x, const Axis& y, double z, double dz, double blur_mm,
                Plane& plane);

// Distance of a point from a tube's axis.
double DistanceToSegment(const Point& point, const Point& from, const Point& to);

// Whether the point lies in the ellipsoid scaled by `factor` around its centre.
bool InsideScaled(const Ellipsoid& ellipsoid, const Point& point, double factor);

// Chest for these extents (LPS mm); fills nodules and look-alikes. Errors: PHANTOM_OPTIONS nodules.
absl::StatusOr<Scene> ChestScene(const Options& options, const Point& extent_mm, std::vector<Nodule>& nodules,
                                 std::vector<LookAlike>& look_alikes);

// Head for these extents.
Scene HeadScene(const Point& extent_mm);

}  // namespace tomoserve::phantom
