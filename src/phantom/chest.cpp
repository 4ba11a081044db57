#include "phantom/chest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tomoserve/base/status.h"

namespace tomoserve::phantom {
namespace {

constexpr double kAirHu = -1000;
constexpr double kTableHu = -120;
constexpr double kAirwayWallHu = 50;
constexpr double kDiscHu = 90;

constexpr double kBodyHalfX = 170;
constexpr double kBodyHalfY = 115;
constexpr double kTableHalfX = 190;
constexpr double kTableTopY = 119;
constexpr double kTableBottomY = 129;
constexpr double kEndMarginMm = 12;

// Names the stream of random numbers that Chest::details is.
constexpr std::uint64_t kDetails = 0x64657461696c73;

void AddBody(Chest& chest) {
  const double infinite = std::numeric_limits<double>::infinity();
  const Anatomy& anatomy = chest.anatomy;
  const double s = chest.s;
  const double fat = anatomy.fat_mm;
  const auto cylinder = [&](double half_x, double half_y, double value) {
    chest.scene.ellipsoids.push_back({chest.At(0, 0, 0), {s * half_x, s * half_y, infinite}, value});
  };
  chest.scene.boxes.push_back({{-s * (kTableHalfX + fat), s * (kTableTopY + fat), -infinite},
                               {s * (kTableHalfX + fat), s * (kTableBottomY + fat), infinite},
                               kTableHu});
  cylinder(kBodyHalfX + fat, kBodyHalfY + fat, anatomy.fat_hu);
  cylinder(kBodyHalfX - 14, kBodyHalfY - 12, anatomy.muscle_hu);
  cylinder(kBodyHalfX - 36, kBodyHalfY - 30, anatomy.soft_hu);
}

void AddOrgans(Chest& chest) {
  const Anatomy& anatomy = chest.anatomy;
  const double s = chest.s;
  const double h = chest.h;
  const auto lung = [&](double side, const Anatomy::Lung& shape) {
    return Ellipsoid{chest.At(side * shape.centre[0], shape.centre[1], shape.centre[2]),
                     {s * shape.half_x, s * shape.half_y, h},
                     anatomy.lung_hu,
                     anatomy.lung_hu_per_mm_y,
                     Paint::kLung};
  };
  chest.right_lung = lung(-1, anatomy.right);
  chest.left_lung = lung(+1, anatomy.left);
  const Point& heart = anatomy.heart;
  const Point& half = anatomy.heart_half;
  chest.heart = {
      chest.At(heart[0], heart[1], heart[2] * h), {s * half[0], s * half[1], half[2] * h}, anatomy.heart_hu};
  chest.liver = {
      chest.At(-56, -4, -1.05 * h), {s * 74, s * 74, 0.55 * h * anatomy.liver_top}, anatomy.liver_hu};
  chest.scene.ellipsoids.insert(chest.scene.ellipsoids.end(),
                                {chest.right_lung, chest.left_lung, chest.heart, chest.liver});
}

// Trachea from above the volume down to the carina, a main bronchus from there into each lung.
void AddAirways(Chest& chest) {
  constexpr double kLumen = 8.5;
  constexpr double kWall = 2;
  const double s = chest.s;
  const Point carina = chest.Carina();
  const Point above = chest.At(0, 22, chest.half_z + 2 * kLumen);
  chest.scene.tubes.push_back({carina, above, s * (kLumen + kWall), kAirwayWallHu});
  chest.scene.tubes.push_back({carina, above, s * kLumen, kAirwayHu});
  for (const double side : {-1.0, 1.0}) {
    chest.scene.tubes.push_back({carina, chest.BronchusEnd(side), s * kBronchusMm, kAirwayHu});
  }
}

// Each rib runs from the spine around the chest, falling towards the front.
void AddRibs(Chest& chest) {
  constexpr int kPairs = 10;
  constexpr int kPieces = 12;
  const double s = chest.s;
  const double h = chest.h;
  const double rib_hu = chest.anatomy.rib_hu;
  // Points of a quarter ellipse and a bit more, by halving angles: (x, y) on the unit circle from
  // posterior.
  for (int pair = 0; pair < kPairs; ++pair) {
    const double top = h * (1.1 - 2.2 * pair / (kPairs - 1));
    for (const double side : {-1.0, 1.0}) {
      Point before{};
      for (int piece = 0; piece <= kPieces; ++piece) {
        // t runs from posterior (y = +1) over the side to anterior: a rational parametrisation of the
        // circle.
        const double u = -0.85 + 1.65 * piece / kPieces;
        const double x = (1 - u * u) / (1 + u * u);
        const double y = -2 * u / (1 + u * u);
        const Point here = chest.At(side * 141 * x, 93 * y, top - 0.3 * h * (u + 0.85));
        if (piece > 0) chest.scene.tubes.push_back({before, here, s * chest.anatomy.rib_mm, rib_hu});
        before = here;
      }
    }
  }
  chest.scene.tubes.push_back({chest.At(0, -91, 0.55 * h), chest.At(0, -93, -0.5 * h), s * 8, rib_hu * 0.7});
}

void AddSpine(Chest& chest) {
  const double infinite = std::numeric_limits<double>::infinity();
  const Anatomy& anatomy = chest.anatomy;
  const double s = chest.s;
  Scene& scene = chest.scene;
  scene.ellipsoids.push_back({chest.At(0, 88, 0), {s * 13, s * 13, infinite}, anatomy.rib_hu});
  scene.ellipsoids.push_back({chest.At(0, 88, 0), {s * 8, s * 8, infinite}, anatomy.soft_hu});
  scene.ellipsoids.push_back({chest.At(0, 64, 0), {s * 19, s * 16, infinite}, kDiscHu});
  constexpr double kVertebraMm = 28;
  const int levels = static_cast<int>(std::ceil(chest.half_z / kVertebraMm)) + 1;
  for (int level = -levels; level <= levels; ++level) {
    // Flattened tubes would need their own shape; two side by side are wide enough.
    for (const double side : {-1.0, 1.0}) {
      const double z = level * kVertebraMm;
      scene.tubes.push_back(
          {chest.At(side * 4, 64, z - 4), chest.At(side * 4, 64, z + 4), s * 14, anatomy.vertebra_hu});
    }
  }
}

}  // namespace

double Distance(const Point& a, const Point& b) {
  return std::sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) +
                   (a[2] - b[2]) * (a[2] - b[2]));
}

double SmallestHalf(const Ellipsoid& ellipsoid) {
  return std::min({ellipsoid.half[0], ellipsoid.half[1], ellipsoid.half[2]});
}

Point Along(const Point& from, const Point& direction, double length) {
  return {from[0] + length * direction[0], from[1] + length * direction[1], from[2] + length * direction[2]};
}

Point RandomDirection(Random& random) {
  for (;;) {
    Point direction{};
    for (double& component : direction) component = random.Between(-1, 1);
    const double norm = Distance(direction, {});
    if (norm < 0.1 || norm > 1) continue;
    for (double& component : direction) component /= norm;
    return direction;
  }
}

Chest::Chest(const Options& with, const Point& extent_mm)
    : options(with),
      details(Mix(with.seed ^ kDetails)),
      anatomy(MakeAnatomy(with.vary, details)),
      s(std::min({anatomy.scale, 0.47 * extent_mm[0] / (kBodyHalfX + anatomy.fat_mm),
                  0.47 * extent_mm[1] / (kTableBottomY + anatomy.fat_mm)})),
      h(std::min(anatomy.lung_half_z, extent_mm[2] / 2 - kEndMarginMm)),
      half_z(extent_mm[2] / 2),
      random(Mix(with.seed)) {}

bool Chest::ClearOfOrgans(const Point& point, double clearance) const {
  for (const Ellipsoid* organ : {&heart, &liver}) {
    if (InsideScaled(*organ, point, 1 + clearance / SmallestHalf(*organ))) return false;
  }
  return true;
}

bool Chest::InLung(const Point& point, double clearance, const Ellipsoid& lung) const {
  return InsideScaled(lung, point, 1 - clearance / SmallestHalf(lung)) && ClearOfOrgans(point, clearance);
}

bool Chest::ClearOfNodules(const Point& from, const Point& to, double radius, double radii) const {
  return std::none_of(nodules.begin(), nodules.end(), [&](const Nodule& nodule) {
    return DistanceToSegment(nodule.centre_lps.mm, from, to) < radii * (nodule.diameter_mm / 2) + radius;
  });
}

std::optional<Chest::OnPleura> Chest::RandomPleura(bool right, Random& random_numbers) const {
  constexpr double kMinLateral = 0.25;
  const Ellipsoid& lung = Lung(right);
  const Point u = RandomDirection(random_numbers);
  if (u[0] * (right ? -1 : 1) < kMinLateral) return std::nullopt;
  OnPleura place;
  double norm = 0;
  for (std::size_t d = 0; d < 3; ++d) {
    place.point[d] = lung.centre[d] + lung.half[d] * u[d];
    place.inwards[d] = -u[d] / lung.half[d];
    norm += place.inwards[d] * place.inwards[d];
  }
  for (double& component : place.inwards) component /= std::sqrt(norm);
  return place;
}

absl::StatusOr<Scene> ChestScene(const Options& options, const Point& extent_mm, std::vector<Nodule>& nodules,
                                 std::vector<LookAlike>& look_alikes) {
  Chest chest(options, extent_mm);
  chest.scene.background = kAirHu;
  AddBody(chest);
  if (chest.h > 0) {
    AddOrgans(chest);
    AddAirways(chest);
    AddRibs(chest);
    if (!AddNodules(chest)) {
      return base::Error(absl::StatusCode::kInvalidArgument, "PHANTOM_OPTIONS", "nodules",
                         "the lungs of a phantom of this extent do not hold so many nodules");
    }
    AddVessels(chest, -1);
    AddVessels(chest, +1);
    AddFeedingVessels(chest);
    AddFissures(chest);
    AddLookAlikes(chest);
  } else if (options.nodules > 0) {
    return base::Error(absl::StatusCode::kInvalidArgument, "PHANTOM_OPTIONS", "nodules",
                       "a phantom of this extent along z has no lungs for nodules");
  }
  AddSpine(chest);
  nodules = std::move(chest.nodules);
  look_alikes = std::move(chest.look_alikes);
  return std::move(chest.scene);
}

}  // namespace tomoserve::phantom
