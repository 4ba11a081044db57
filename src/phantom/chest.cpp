// A chest of round numbers: a slim adult, arms up, in deep inspiration. LPS mm, the patient's centre at 0.
#include <algorithm>
#include <cmath>

#include "phantom/noise.h"
#include "phantom/scene.h"
#include "tomoserve/base/status.h"

namespace tomoserve::phantom {
namespace {

constexpr double kAirHu = -1000;
constexpr double kTableHu = -120;
constexpr double kFatHu = -100;
constexpr double kMuscleHu = 55;
constexpr double kSoftHu = 35;
constexpr double kLungHu = -850;
constexpr double kVesselHu = 40;
constexpr double kAirwayHu = -1000;
constexpr double kAirwayWallHu = 50;
constexpr double kNoduleHu = 30;
constexpr double kHeartHu = 45;
constexpr double kLiverHu = 60;
constexpr double kRibHu = 380;
constexpr double kVertebraHu = 220;
constexpr double kDiscHu = 90;

constexpr double kBodyHalfX = 170;
constexpr double kBodyHalfY = 115;
constexpr double kTableHalfX = 190;
constexpr double kTableTopY = 119;
constexpr double kTableBottomY = 129;
constexpr double kLungHalfZ = 115;
constexpr double kEndMarginMm = 12;
constexpr double kBronchusMm = 6;  // radius
constexpr double kMinNoduleMm = 6;
constexpr double kMaxNoduleMm = 20;

double Distance(const Point& a, const Point& b) {
  return std::sqrt((a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]) +
                   (a[2] - b[2]) * (a[2] - b[2]));
}

double SmallestHalf(const Ellipsoid& ellipsoid) {
  return std::min({ellipsoid.half[0], ellipsoid.half[1], ellipsoid.half[2]});
}

// Builds one chest. `s` scales the axial plane, `h` is half the height of the lungs.
class ChestBuilder {
 public:
  ChestBuilder(const Options& options, const Point& extent_mm)
      : options_(options),
        s_(std::min({1.0, 0.47 * extent_mm[0] / kBodyHalfX, 0.47 * extent_mm[1] / kTableBottomY})),
        h_(std::min(kLungHalfZ, extent_mm[2] / 2 - kEndMarginMm)),
        half_z_(extent_mm[2] / 2),
        random_(Mix(options.seed)) {}

  absl::StatusOr<Scene> Build(std::vector<Nodule>& nodules) {
    scene_.background = kAirHu;
    AddBody();
    if (h_ > 0) {
      AddOrgans();
      AddAirways();
      AddRibs();
      if (!AddNodules(nodules)) {
        return base::Error(absl::StatusCode::kInvalidArgument, "PHANTOM_OPTIONS", "nodules",
                           "the lungs of a phantom of this extent do not hold so many nodules");
      }
      AddVessels(-1);
      AddVessels(+1);
    } else if (options_.nodules > 0) {
      return base::Error(absl::StatusCode::kInvalidArgument, "PHANTOM_OPTIONS", "nodules",
                         "a phantom of this extent along z has no lungs for nodules");
    }
    AddSpine();
    return std::move(scene_);
  }

 private:
  Point At(double x, double y, double z) const { return {s_ * x, s_ * y, z}; }

  Point Carina() const { return At(0, 22, 0.3 * h_); }
  // In the lung on that side.
  Point BronchusEnd(double side) const { return At(side * 19, 12, 0.05 * h_); }

  void AddBody() {
    const double infinite = std::numeric_limits<double>::infinity();
    const auto cylinder = [&](double half_x, double half_y, double value) {
      scene_.ellipsoids.push_back({At(0, 0, 0), {s_ * half_x, s_ * half_y, infinite}, value});
    };
    scene_.boxes.push_back({{-s_ * kTableHalfX, s_ * kTableTopY, -infinite},
                            {s_ * kTableHalfX, s_ * kTableBottomY, infinite},
                            kTableHu});
    cylinder(kBodyHalfX, kBodyHalfY, kFatHu);
    cylinder(kBodyHalfX - 14, kBodyHalfY - 12, kMuscleHu);
    cylinder(kBodyHalfX - 36, kBodyHalfY - 30, kSoftHu);
  }

  void AddOrgans() {
    const auto lung = [&](double side) {
      return Ellipsoid{At(side * 68, -2, 0), {s_ * 54, s_ * 76, h_}, kLungHu, 0.3, Paint::kLung};
    };
    right_lung_ = lung(-1);
    left_lung_ = lung(+1);
    heart_ = {At(24, -22, -0.25 * h_), {s_ * 50, s_ * 40, 0.45 * h_}, kHeartHu};
    liver_ = {At(-56, -4, -1.05 * h_), {s_ * 74, s_ * 74, 0.55 * h_}, kLiverHu};
    scene_.ellipsoids.insert(scene_.ellipsoids.end(), {right_lung_, left_lung_, heart_, liver_});
  }

  // Trachea from above the volume down to the carina, a main bronchus from there into each lung.
  void AddAirways() {
    constexpr double kLumen = 8.5;
    constexpr double kWall = 2;
    const Point carina = Carina();
    const Point above = At(0, 22, half_z_ + 2 * kLumen);
    scene_.tubes.push_back({carina, above, s_ * (kLumen + kWall), kAirwayWallHu});
    scene_.tubes.push_back({carina, above, s_ * kLumen, kAirwayHu});
    for (const double side : {-1.0, 1.0}) {
      scene_.tubes.push_back({carina, BronchusEnd(side), s_ * kBronchusMm, kAirwayHu});
    }
  }

  // Each rib runs from the spine around the chest, falling towards the front.
  void AddRibs() {
    constexpr int kPairs = 10;
    constexpr int kPieces = 12;
    // Points of a quarter ellipse and a bit more, by halving angles: (x, y) on the unit circle from
    // posterior.
    for (int pair = 0; pair < kPairs; ++pair) {
      const double top = h_ * (1.1 - 2.2 * pair / (kPairs - 1));
      for (const double side : {-1.0, 1.0}) {
        Point before{};
        for (int piece = 0; piece <= kPieces; ++piece) {
          // t runs from posterior (y = +1) over the side to anterior: a rational parametrisation of the
          // circle.
          const double u = -0.85 + 1.65 * piece / kPieces;
          const double x = (1 - u * u) / (1 + u * u);
          const double y = -2 * u / (1 + u * u);
          const Point here = At(side * 141 * x, 93 * y, top - 0.3 * h_ * (u + 0.85));
          if (piece > 0) scene_.tubes.push_back({before, here, s_ * 4.5, kRibHu});
          before = here;
        }
      }
    }
    scene_.tubes.push_back({At(0, -91, 0.55 * h_), At(0, -93, -0.5 * h_), s_ * 8, kRibHu * 0.7});
  }

  void AddSpine() {
    const double infinite = std::numeric_limits<double>::infinity();
    scene_.ellipsoids.push_back({At(0, 88, 0), {s_ * 13, s_ * 13, infinite}, kRibHu});
    scene_.ellipsoids.push_back({At(0, 88, 0), {s_ * 8, s_ * 8, infinite}, kSoftHu});
    scene_.ellipsoids.push_back({At(0, 64, 0), {s_ * 19, s_ * 16, infinite}, kDiscHu});
    constexpr double kVertebraMm = 28;
    const int levels = static_cast<int>(std::ceil(half_z_ / kVertebraMm)) + 1;
    for (int level = -levels; level <= levels; ++level) {
      // Flattened tubes would need their own shape; two side by side are wide enough.
      for (const double side : {-1.0, 1.0}) {
        const double z = level * kVertebraMm;
        scene_.tubes.push_back({At(side * 4, 64, z - 4), At(side * 4, 64, z + 4), s_ * 14, kVertebraHu});
      }
    }
  }

  // Lung tissue at least `clearance` from every wall. A ball of that radius fits into an ellipsoid scaled by
  // 1 - clearance / (smallest half axis), and outside of one scaled by 1 + the same.
  bool InLung(const Point& point, double clearance, const Ellipsoid& lung) const {
    if (!InsideScaled(lung, point, 1 - clearance / SmallestHalf(lung))) return false;
    for (const Ellipsoid* organ : {&heart_, &liver_}) {
      if (InsideScaled(*organ, point, 1 + clearance / SmallestHalf(*organ))) return false;
    }
    return true;
  }

  bool AddNodules(std::vector<Nodule>& nodules) {
    constexpr int kAttempts = 2000;
    constexpr double kShrink = 0.85;
    std::vector<double> diameters;
    for (std::uint32_t n = 0; n < options_.nodules; ++n) {
      const double share = (n + random_.Between(0.1, 0.9)) / options_.nodules;
      diameters.push_back(kMaxNoduleMm - (kMaxNoduleMm - kMinNoduleMm) * share);  // the largest first
    }
    bool right = random_.Next() % 2 == 0;
    for (double diameter : diameters) {
      bool placed = false;
      while (!placed) {
        for (int attempt = 0; attempt < kAttempts && !placed; ++attempt) {
          const bool side = attempt < kAttempts / 2 ? right : !right;
          placed = TryNodule(diameter, side, nodules);
        }
        if (!placed && diameter <= kMinNoduleMm) return false;
        if (!placed) diameter = std::max(kMinNoduleMm, diameter * kShrink);
      }
      right = !right;
    }
    return true;
  }

  bool TryNodule(double diameter, bool right, std::vector<Nodule>& nodules) {
    const Ellipsoid& lung = right ? right_lung_ : left_lung_;
    Point centre{};
    for (std::size_t d = 0; d < 3; ++d) {
      centre[d] = lung.centre[d] + random_.Between(-lung.half[d], lung.half[d]);
    }
    // Tenths of a millimetre: what is written down is what is there.
    for (double& coordinate : centre) coordinate = std::floor(coordinate * 10 + 0.5) / 10;
    const double rounded = std::floor(diameter * 10 + 0.5) / 10;
    const double radius = rounded / 2;
    if (!InLung(centre, 2 * radius, lung)) return false;
    const double from_bronchus = DistanceToSegment(centre, Carina(), BronchusEnd(right ? -1 : 1));
    if (from_bronchus < 2 * radius + s_ * kBronchusMm) return false;
    for (const Nodule& other : nodules) {
      if (Distance(centre, other.centre_lps.mm) < 2 * radius + other.diameter_mm) return false;
    }
    nodules.push_back({volume::LpsPoint{centre}, rounded, right});
    scene_.spheres.push_back({centre, radius, kNoduleHu, Paint::kInLung});
    return true;
  }

  // A tree of tubes from the hilum. A branch that would leave the lung or come too close to a nodule takes
  // another direction; if there is none it ends.
  void AddVessels(double side) {
    const Ellipsoid& lung = side < 0 ? right_lung_ : left_lung_;
    const Point hilum = At(side * 22, 6, 0.05 * h_);
    for (const Point& towards : {Point{0.5, -0.5, 0.8}, Point{0.5, 0.5, 0.8}, Point{0.9, -0.3, 0.1},
                                 Point{0.9, 0.4, -0.1}, Point{0.5, 0.6, -0.8}, Point{0.6, -0.2, -0.9}}) {
      Branch(lung, hilum, {side * towards[0], towards[1], towards[2]}, 4.2, 38, 0);
    }
  }

  void Branch(const Ellipsoid& lung, const Point& from, const Point& towards, double radius, double length,
              int depth) {
    constexpr int kMaxDepth = 6;
    constexpr double kMinRadius = 0.5;
    constexpr int kDirections = 8;
    if (depth >= kMaxDepth || radius < kMinRadius) return;
    for (int attempt = 0; attempt < kDirections; ++attempt) {
      const double bend = 0.25 + 0.1 * attempt;
      Point direction{};
      double norm = 0;
      for (std::size_t d = 0; d < 3; ++d) {
        direction[d] = towards[d] + random_.Between(-bend, bend);
        norm += direction[d] * direction[d];
      }
      norm = std::sqrt(norm);
      if (norm < 1e-3) continue;
      for (double& component : direction) component /= norm;
      const Point to{from[0] + s_ * length * direction[0], from[1] + s_ * length * direction[1],
                     from[2] + h_ / kLungHalfZ * length * direction[2]};
      const double thickness = s_ * radius;
      if (!InsideScaled(lung, to, 0.96) || !ClearOfNodules(from, to, thickness)) continue;
      scene_.tubes.push_back({from, to, thickness, kVesselHu, Paint::kInLung});
      const int children = depth == 0 ? 3 : 2;
      for (int child = 0; child < children; ++child) {
        Point next{};
        for (std::size_t d = 0; d < 3; ++d) next[d] = direction[d] + random_.Between(-0.75, 0.75);
        Branch(lung, to, next, radius * random_.Between(0.6, 0.8), length * random_.Between(0.65, 0.85),
               depth + 1);
      }
      return;
    }
  }

  bool ClearOfNodules(const Point& from, const Point& to, double radius) const {
    return std::none_of(scene_.spheres.begin(), scene_.spheres.end(), [&](const Sphere& nodule) {
      return DistanceToSegment(nodule.centre, from, to) < 2 * nodule.radius + radius;
    });
  }

  const Options& options_;
  const double s_;
  const double h_;
  const double half_z_;
  Random random_;
  Scene scene_;
  Ellipsoid right_lung_;
  Ellipsoid left_lung_;
  Ellipsoid heart_;
  Ellipsoid liver_;
};

}  // namespace

absl::StatusOr<Scene> ChestScene(const Options& options, const Point& extent_mm,
                                 std::vector<Nodule>& nodules) {
  return ChestBuilder(options, extent_mm).Build(nodules);
}

}  // namespace tomoserve::phantom
