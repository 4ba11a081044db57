// A head of round numbers as a T1-weighted MR might show it. LPS mm, its centre at 0.
#include <algorithm>

#include "phantom/scene.h"

namespace tomoserve::phantom {

Scene HeadScene(const Point& extent_mm) {
  constexpr double kHalfX = 78;
  constexpr double kHalfY = 98;
  constexpr double kHalfZ = 105;
  constexpr double kScalp = 900;
  constexpr double kSkull = 120;
  constexpr double kLiquor = 260;
  constexpr double kGrey = 520;
  constexpr double kWhite = 700;
  constexpr double kFiducial = 1400;
  // The whole head fits, with air around it.
  const double s = std::min({1.0, 0.45 * extent_mm[0] / kHalfX, 0.45 * extent_mm[1] / kHalfY});
  const double t = std::min(s, 0.45 * extent_mm[2] / kHalfZ);
  Scene scene;
  scene.background = 0;
  const auto add = [&](const Point& centre, const Point& half, double value) {
    scene.ellipsoids.push_back(
        {{s * centre[0], s * centre[1], t * centre[2]}, {s * half[0], s * half[1], t * half[2]}, value});
  };
  add({0, 0, 0}, {kHalfX, kHalfY, kHalfZ}, kScalp);
  add({0, 0, 2}, {kHalfX - 6, kHalfY - 7, kHalfZ - 8}, kSkull);
  add({0, 0, 4}, {kHalfX - 12, kHalfY - 13, kHalfZ - 15}, kLiquor);
  add({-30, 0, 6}, {32, 81, 84}, kGrey);
  add({30, 0, 6}, {32, 81, 84}, kGrey);
  add({-29, 2, 8}, {23, 68, 68}, kWhite);
  add({29, 2, 8}, {23, 68, 68}, kWhite);
  add({-10, -8, 14}, {6, 34, 15}, kLiquor);
  add({10, -8, 14}, {6, 34, 15}, kLiquor);
  add({0, 52, -58}, {38, 26, 22}, kGrey);
  add({-30, -80, -28}, {12, 12, 12}, kLiquor);
  add({30, -80, -28}, {12, 12, 12}, kLiquor);
  // What tells left from right: an oil capsule taped to the right temple.
  add({-(kHalfX + 2), -10, 0}, {7, 7, 7}, kFiducial);
  return scene;
}

}  // namespace tomoserve::phantom
