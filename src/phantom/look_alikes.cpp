// Vessels that cross or branch, and scars: what a reader has to tell from nodules.
#include <cmath>
#include <iterator>

#include "phantom/chest.h"

namespace tomoserve::phantom {
namespace {

constexpr double kFromNodules = 1.6;  // radii of a nodule
constexpr int kAttempts = 60;

// Tubes and discs of one look-alike, not yet in the scene.
struct Draft {
  std::vector<Tube> tubes;
  std::vector<Disc> discs;
  Point centre{};
};

Point RandomInBox(const Ellipsoid& lung, Random& random) {
  Point point{};
  for (std::size_t d = 0; d < 3; ++d) {
    point[d] = lung.centre[d] + lung.half[d] * random.Between(-0.95, 0.95);
  }
  return point;
}

Tube VesselTube(const Chest& chest, const Point& from, const Point& to, double radius) {
  return {from, to, radius, chest.anatomy.vessel_hu, Paint::kInLung};
}

// Two vessels that touch on their ways.
Draft Crossing(Chest& chest, const Point& centre) {
  Random& random = chest.details;
  Draft draft{{}, {}, centre};
  const double first = random.Between(1.2, 3.5);
  const double second = random.Between(1.2, 3.5);
  const Point apart = RandomDirection(random);
  const double distance = (first + second) * random.Between(0, 0.95);
  for (const bool other : {false, true}) {
    const Point direction = RandomDirection(random);
    const Point middle = other ? Along(centre, apart, distance) : centre;
    const double before = random.Between(10, 28);
    const double after = random.Between(10, 28);
    draft.tubes.push_back(VesselTube(chest, Along(middle, direction, -before),
                                     Along(middle, direction, after), other ? second : first));
  }
  return draft;
}

// A vessel and its two or three branches.
Draft Branching(Chest& chest, const Point& centre) {
  Random& random = chest.details;
  Draft draft{{}, {}, centre};
  const double radius = random.Between(1.5, 3.5);
  const int branches = 3 + static_cast<int>(random.Next() % 2);
  for (int n = 0; n < branches; ++n) {
    const Point direction = RandomDirection(random);
    const double length = random.Between(12, 30);
    const double thickness = n == 0 ? radius : radius * random.Between(0.5, 0.9);
    draft.tubes.push_back(VesselTube(chest, centre, Along(centre, direction, length), thickness));
  }
  return draft;
}

// A scar or collapsed lung as a plate.
Draft Band(Chest& chest, const Point& centre) {
  Random& random = chest.details;
  Draft draft{{}, {}, centre};
  const Point normal = RandomDirection(random);
  const double radius = random.Between(8, 20);
  const double thickness = random.Between(1.2, 3.5);
  draft.discs.push_back({centre, normal, radius, thickness, random.Between(-150, 50)});
  return draft;
}

// A scar that runs from the pleura into the lung, with bends.
Draft Strand(Chest& chest, const Chest::OnPleura& place) {
  Random& random = chest.details;
  Draft draft{{}, {}, place.point};
  const double value = random.Between(-150, 60);
  const double radius = random.Between(0.8, 2.2);
  Point from = place.point;
  for (int n = 0; n < 3; ++n) {
    const Point turn = RandomDirection(random);
    Point direction{};
    for (std::size_t d = 0; d < 3; ++d) direction[d] = 0.8 * place.inwards[d] + 0.5 * turn[d];
    const double length = random.Between(5, 14);
    const Point to = Along(from, direction, length);
    draft.tubes.push_back({from, to, radius * (1 - 0.25 * n), value, Paint::kInLung});
    from = to;
  }
  return draft;
}

// Pleura that is thick along a line.
Draft PleuralThickening(Chest& chest, const Ellipsoid& lung, const Chest::OnPleura& place) {
  Random& random = chest.details;
  Draft draft{{}, {}, place.point};
  const double value = random.Between(-20, 60);
  const double radius = random.Between(1.2, 3);
  const double step = random.Between(6, 10);
  const Point heading = RandomDirection(random);
  // On the surface of the lung, by going along it and back onto it.
  Point from = place.point;
  for (int n = 0; n < 5; ++n) {
    Point to = Along(from, heading, step);
    double norm = 0;
    for (std::size_t d = 0; d < 3; ++d) {
      const double u = (to[d] - lung.centre[d]) / lung.half[d];
      norm += u * u;
    }
    norm = std::sqrt(norm);
    if (norm < 0.1) break;
    for (std::size_t d = 0; d < 3; ++d) to[d] = lung.centre[d] + (to[d] - lung.centre[d]) / norm;
    draft.tubes.push_back({from, to, radius, value, Paint::kInLung});
    if (n == 2) draft.centre = from;
    from = to;
  }
  return draft;
}

bool Free(const Chest& chest, const Draft& draft) {
  for (const Tube& tube : draft.tubes) {
    if (!chest.ClearOfNodules(tube.from, tube.to, tube.radius, kFromNodules)) return false;
  }
  for (const Disc& disc : draft.discs) {
    if (!chest.ClearOfNodules(disc.centre, disc.centre, disc.radius, kFromNodules)) return false;
  }
  return true;
}

bool TryLookAlike(Chest& chest, LookAlike::Kind kind, bool right) {
  Random& random = chest.details;
  const Ellipsoid& lung = chest.Lung(right);
  Draft draft;
  if (kind == LookAlike::Kind::kStrand || kind == LookAlike::Kind::kPleuralThickening) {
    const auto place = chest.RandomPleura(right, random);
    if (!place.has_value() || !chest.ClearOfOrgans(place->point, 2)) return false;
    draft = kind == LookAlike::Kind::kStrand ? Strand(chest, *place) : PleuralThickening(chest, lung, *place);
  } else {
    const Point centre = RandomInBox(lung, random);
    if (!chest.InLung(centre, 6, lung)) return false;
    draft = kind == LookAlike::Kind::kCrossing    ? Crossing(chest, centre)
            : kind == LookAlike::Kind::kBranching ? Branching(chest, centre)
                                                  : Band(chest, centre);
  }
  if (!Free(chest, draft)) return false;
  chest.scene.tubes.insert(chest.scene.tubes.end(), draft.tubes.begin(), draft.tubes.end());
  chest.scene.discs.insert(chest.scene.discs.end(), draft.discs.begin(), draft.discs.end());
  chest.look_alikes.push_back({kind, volume::LpsPoint{draft.centre}});
  return true;
}

}  // namespace

void AddLookAlikes(Chest& chest) {
  using Kind = LookAlike::Kind;
  constexpr Kind kKinds[] = {Kind::kCrossing, Kind::kBranching, Kind::kBand, Kind::kStrand,
                             Kind::kPleuralThickening};
  for (std::uint32_t n = 0; n < chest.options.look_alikes; ++n) {
    const Kind kind = kKinds[n % std::size(kKinds)];
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      if (TryLookAlike(chest, kind, chest.details.Next() % 2 == 0)) break;
    }
  }
}

}  // namespace tomoserve::phantom
