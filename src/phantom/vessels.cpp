// Trees of tubes in the lungs.
#include <cmath>

#include "phantom/chest.h"

namespace tomoserve::phantom {
namespace {

constexpr double kRoundLungHalfZ = 115;  // for which lengths are given
constexpr double kWallShare = 0.25;      // of an airway's lumen

struct Twig {
  Point from{};
  Point towards{};
  double radius = 0;
  double length = 0;
  int depth = 0;
};

// An airway along a vessel of that radius, beside it.
void AddAirway(Chest& chest, const Point& from, const Point& to, double radius) {
  const Point aside = RandomDirection(chest.details);
  const double lumen = 0.8 * radius;
  const double outer = lumen * (1 + kWallShare) + 0.5;
  const double away = radius + outer;
  const Point a = Along(from, aside, away);
  const Point b = Along(to, aside, away);
  if (!chest.ClearOfNodules(a, b, outer, chest.anatomy.nodule_clearance)) return;
  chest.scene.tubes.push_back({a, b, outer, chest.anatomy.airway_wall_hu, Paint::kInLung});
  chest.scene.tubes.push_back({a, b, lumen, kAirwayHu, Paint::kInLung});
}

// A branch that would leave the lung or come too close to a nodule takes another direction; if there is none
// it ends.
void Branch(Chest& chest, const Ellipsoid& lung, const Twig& twig) {
  constexpr double kMinRadius = 0.5;
  constexpr int kDirections = 8;
  Random& random = chest.random;
  const Anatomy& anatomy = chest.anatomy;
  if (twig.depth >= anatomy.vessel_depth || twig.radius < kMinRadius) return;
  for (int attempt = 0; attempt < kDirections; ++attempt) {
    const double bend = 0.25 + 0.1 * attempt;
    Point direction{};
    double norm = 0;
    for (std::size_t d = 0; d < 3; ++d) {
      direction[d] = twig.towards[d] + random.Between(-bend, bend);
      norm += direction[d] * direction[d];
    }
    norm = std::sqrt(norm);
    if (norm < 1e-3) continue;
    for (double& component : direction) component /= norm;
    const Point to{twig.from[0] + chest.s * twig.length * direction[0],
                   twig.from[1] + chest.s * twig.length * direction[1],
                   twig.from[2] + chest.h / kRoundLungHalfZ * twig.length * direction[2]};
    const double thickness = chest.s * twig.radius;
    if (!InsideScaled(lung, to, 0.96) ||
        !chest.ClearOfNodules(twig.from, to, thickness, anatomy.nodule_clearance)) {
      continue;
    }
    if (twig.depth < anatomy.airway_depth) AddAirway(chest, twig.from, to, thickness);
    chest.scene.tubes.push_back({twig.from, to, thickness, anatomy.vessel_hu, Paint::kInLung});
    const int children = twig.depth == 0 ? 3 : 2;
    for (int child = 0; child < children; ++child) {
      Point next{};
      for (std::size_t d = 0; d < 3; ++d) {
        next[d] = direction[d] + random.Between(-anatomy.vessel_spread, anatomy.vessel_spread);
      }
      Twig branch{to, next, 0, 0, twig.depth + 1};
      branch.length = twig.length * random.Between(0.65, 0.85);
      branch.radius = twig.radius * random.Between(0.6, 0.8);
      Branch(chest, lung, branch);
    }
    return;
  }
}

}  // namespace

void AddVessels(Chest& chest, double side) {
  const Ellipsoid& lung = chest.Lung(side < 0);
  const Anatomy& anatomy = chest.anatomy;
  const auto start = [&](const Point& towards, double radius) {
    Branch(chest, lung,
           {chest.Hilum(side),
            {side * towards[0], towards[1], towards[2]},
            radius,
            anatomy.vessel_length_mm,
            0});
  };
  for (const Point& towards : {Point{0.5, -0.5, 0.8}, Point{0.5, 0.5, 0.8}, Point{0.9, -0.3, 0.1},
                               Point{0.9, 0.4, -0.1}, Point{0.5, 0.6, -0.8}, Point{0.6, -0.2, -0.9}}) {
    start(towards, anatomy.vessel_mm);
  }
  for (int n = 0; n < anatomy.more_vessels; ++n) {
    Point towards = RandomDirection(chest.details);
    towards[0] = std::abs(towards[0]);
    start(towards, anatomy.vessel_mm * chest.details.Between(0.5, 0.9));
  }
}

void AddFeedingVessels(Chest& chest) {
  const std::size_t count = chest.nodules.size();
  for (std::size_t n = 0; n < count; ++n) {
    if (!(chest.details.Between(0, 1) < chest.anatomy.feeding_vessels)) continue;
    const Nodule& nodule = chest.nodules[n];
    const Point& centre = nodule.centre_lps.mm;
    const Point hilum = chest.Hilum(nodule.right ? -1 : 1);
    const double distance = Distance(centre, hilum);
    Point direction = RandomDirection(chest.details);
    for (std::size_t d = 0; d < 3; ++d) direction[d] = 0.5 * direction[d] + (hilum[d] - centre[d]) / distance;
    const double length = chest.details.Between(10, 30) + nodule.diameter_mm / 2;
    const double radius = chest.details.Between(0.5, 1.4);
    const Point end = Along(centre, direction, length);
    chest.scene.tubes.push_back({centre, end, radius, chest.anatomy.vessel_hu, Paint::kInLung});
  }
}

void AddFissures(Chest& chest) {
  constexpr double kSheetMm = 0.9;
  constexpr double kSheetHu = -350;
  if (!chest.anatomy.fissures) return;
  for (const bool right : {true, false}) {
    // The oblique fissure falls towards the front.
    const double tilt = chest.details.Between(0.8, 1.6);
    const double norm = std::sqrt(1 + tilt * tilt);
    const Ellipsoid& lung = chest.Lung(right);
    const double shift = chest.details.Between(-0.25, 0.1) * lung.half[2];
    chest.scene.discs.push_back({{lung.centre[0], lung.centre[1], lung.centre[2] + shift},
                                 {0, 1 / norm, -tilt / norm},
                                 2 * lung.half[1],
                                 kSheetMm,
                                 kSheetHu});
  }
}

}  // namespace tomoserve::phantom
