// Where nodules lie and what they look like.
#include <algorithm>
#include <cmath>

#include "phantom/chest.h"

namespace tomoserve::phantom {
namespace {

constexpr double kSmallestPartSolidMm = 6;

struct Kind {
  bool part_solid = false;
  bool pleural = false;
  bool lobulated = false;
};

// Tenths of a millimetre: what is written down is what is there.
double Rounded(double mm) { return std::floor(mm * 10 + 0.5) / 10; }

bool ClearOfOthers(const Chest& chest, const Point& centre, double radius) {
  return std::none_of(chest.nodules.begin(), chest.nodules.end(), [&](const Nodule& other) {
    return Distance(centre, other.centre_lps.mm) < 2 * radius + other.diameter_mm;
  });
}

// In lung tissue on all sides.
bool PlaceInside(Chest& chest, double radius, bool right, Point& centre) {
  const Ellipsoid& lung = chest.Lung(right);
  for (std::size_t d = 0; d < 3; ++d) {
    centre[d] = lung.centre[d] + chest.random.Between(-lung.half[d], lung.half[d]);
  }
  for (double& coordinate : centre) coordinate = Rounded(coordinate);
  if (!chest.InLung(centre, chest.anatomy.nodule_clearance * radius, lung)) return false;
  const double from_bronchus = DistanceToSegment(centre, chest.Carina(), chest.BronchusEnd(right ? -1 : 1));
  if (from_bronchus < 2 * radius + chest.s * kBronchusMm) return false;
  return ClearOfOthers(chest, centre, radius);
}

// Half to nearly all of it in the lung, the rest hidden in the chest wall.
bool PlaceOnPleura(Chest& chest, double radius, bool right, Point& centre) {
  const auto place = chest.RandomPleura(right, chest.random);
  if (!place.has_value()) return false;
  centre = Along(place->point, place->inwards, radius * chest.random.Between(0.05, 0.8));
  for (double& coordinate : centre) coordinate = Rounded(coordinate);
  return chest.ClearOfOrgans(centre, 1.5 * radius) && ClearOfOthers(chest, centre, radius);
}

void Paint(Chest& chest, const Nodule& nodule) {
  const auto label = static_cast<std::uint8_t>(chest.nodules.size() + 1);
  const Point& centre = nodule.centre_lps.mm;
  const double radius = nodule.diameter_mm / 2;
  const bool part_solid = nodule.core_mm > 0;
  const Anatomy& anatomy = chest.anatomy;
  constexpr double kUnlike = 35;  // HU between nodules of one patient
  const double unlike = chest.options.vary * chest.details.Between(-kUnlike, kUnlike);
  const double solid = anatomy.nodule_hu + unlike;
  const double value = part_solid ? anatomy.haze_hu + unlike : solid;
  const auto paint = part_solid ? Paint::kHaze : Paint::kInLung;
  chest.scene.spheres.push_back({centre, radius, value, paint, label});
  if (nodule.lobulated) {
    const int lobes = 2 + static_cast<int>(chest.details.Next() % 3);
    for (int lobe = 0; lobe < lobes; ++lobe) {
      const Point direction = RandomDirection(chest.details);
      const double away = radius * chest.details.Between(0.8, 1);
      const double size = radius * chest.details.Between(0.35, 0.55);
      chest.scene.spheres.push_back({Along(centre, direction, away), size, value, paint, label});
    }
  }
  if (part_solid) {
    const double core = nodule.core_mm / 2;
    const Point direction = RandomDirection(chest.details);
    const double away = (radius - core) * chest.details.Between(0, 0.6);
    chest.scene.spheres.push_back({Along(centre, direction, away), core, solid, Paint::kInLung, label});
  }
}

bool TryNodule(Chest& chest, double diameter, const Kind& kind, bool right) {
  const double rounded = Rounded(diameter);
  Point centre{};
  if (!(kind.pleural ? PlaceOnPleura : PlaceInside)(chest, rounded / 2, right, centre)) return false;
  Nodule nodule{volume::LpsPoint{centre}, rounded, right, 0, kind.pleural, kind.lobulated};
  if (kind.part_solid && rounded >= kSmallestPartSolidMm) {
    nodule.core_mm = Rounded(rounded * chest.details.Between(0.3, 0.65));
  }
  Paint(chest, nodule);
  chest.nodules.push_back(nodule);
  return true;
}

}  // namespace

bool AddNodules(Chest& chest) {
  constexpr int kAttempts = 2000;
  constexpr double kShrink = 0.85;
  const auto& [smallest, largest] = chest.options.nodule_mm;
  std::vector<double> diameters;
  for (std::uint32_t n = 0; n < chest.options.nodules; ++n) {
    const double share = (n + chest.random.Between(0.1, 0.9)) / chest.options.nodules;
    diameters.push_back(largest - (largest - smallest) * share);  // the largest first
  }
  bool right = chest.random.Next() % 2 == 0;
  for (double diameter : diameters) {
    Kind kind;
    kind.part_solid = chest.details.Between(0, 1) < chest.options.part_solid;
    kind.pleural = chest.details.Between(0, 1) < chest.options.pleural;
    kind.lobulated = chest.details.Between(0, 1) < chest.options.lobulated;
    bool placed = false;
    while (!placed) {
      for (int attempt = 0; attempt < kAttempts && !placed; ++attempt) {
        const bool side = attempt < kAttempts / 2 ? right : !right;
        placed = TryNodule(chest, diameter, kind, side);
      }
      if (!placed && diameter <= smallest) return false;
      if (!placed) diameter = std::max(smallest, diameter * kShrink);
    }
    right = !right;
  }
  return true;
}

}  // namespace tomoserve::phantom
