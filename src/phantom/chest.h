// A chest while it is being built. Private to the room.
#pragma once

#include <optional>
#include <vector>

#include "phantom/anatomy.h"
#include "phantom/noise.h"
#include "phantom/scene.h"

namespace tomoserve::phantom {

inline constexpr double kBronchusMm = 6;  // radius of a main bronchus
inline constexpr double kAirwayHu = -1000;

double Distance(const Point& a, const Point& b);
double SmallestHalf(const Ellipsoid& ellipsoid);
// `from` + `length` * `direction`.
Point Along(const Point& from, const Point& direction, double length);
// Even on the sphere, of unit length.
Point RandomDirection(Random& random);

struct Chest {
  // `s` scales the axial plane, `h` is half the height of the lungs.
  Chest(const Options& options, const Point& extent_mm);

  Point At(double x, double y, double z) const { return {s * x, s * y, z}; }
  Point Carina() const { return At(0, 22, 0.3 * h); }
  // In the lung on that side (+1: left).
  Point BronchusEnd(double side) const { return At(side * 19, 12, 0.05 * h); }
  Point Hilum(double side) const { return At(side * 22, 6, 0.05 * h); }
  const Ellipsoid& Lung(bool right) const { return right ? right_lung : left_lung; }

  // Lung tissue at least `clearance` from every wall. A ball of that radius fits into an ellipsoid scaled by
  // 1 - clearance / (smallest half axis), and outside of one scaled by 1 + the same.
  bool InLung(const Point& point, double clearance, const Ellipsoid& lung) const;
  bool ClearOfOrgans(const Point& point, double clearance) const;
  // No nodule is nearer to the tube than `radii` of its own.
  bool ClearOfNodules(const Point& from, const Point& to, double radius, double radii) const;
  // On the lung's costal surface, with the normal into the lung; nothing where the random place lies
  // elsewhere.
  struct OnPleura {
    Point point{};
    Point inwards{};
  };
  std::optional<OnPleura> RandomPleura(bool right, Random& random_numbers) const;

  const Options& options;
  Random details;  // of all that the default options do not have
  const Anatomy anatomy;
  const double s;
  const double h;
  const double half_z;
  Random random;  // places of nodules and vessels
  Scene scene;
  std::vector<Nodule> nodules;
  std::vector<LookAlike> look_alikes;
  Ellipsoid right_lung;
  Ellipsoid left_lung;
  Ellipsoid heart;
  Ellipsoid liver;
};

// Whether all nodules found a place.
bool AddNodules(Chest& chest);
// Vessels from the hilum of that side (+1: left), airways beside them, vessels to nodules, fissures.
void AddVessels(Chest& chest, double side);
void AddFeedingVessels(Chest& chest);
void AddFissures(Chest& chest);
void AddLookAlikes(Chest& chest);

}  // namespace tomoserve::phantom
