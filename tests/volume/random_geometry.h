// Random grids for property tests; the same numbers on every machine.
#pragma once

#include <cmath>
#include <cstdint>

#include "random.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::testing {

inline volume::LpsVector Normalised(volume::LpsVector v) {
  const double length = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
  return {v[0] / length, v[1] / length, v[2] / length};
}

// Any rotation (uniform quaternion by rejection), either handedness; k leans by up to `shear` towards i and
// j.
inline volume::Geometry RandomGeometry(Random& random, double shear) {
  double q[4];
  double norm = 0;
  do {
    norm = 0;
    for (double& part : q) {
      part = random.Between(-1, 1);
      norm += part * part;
    }
  } while (norm > 1 || norm < 0.01);
  norm = std::sqrt(norm);
  const double w = q[0] / norm, x = q[1] / norm, y = q[2] / norm, z = q[3] / norm;
  std::array<volume::LpsVector, 3> d{{{1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)},
                                      {2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)},
                                      {2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)}}};
  if (random.Next() % 2 == 0) d[2] = {-d[2][0], -d[2][1], -d[2][2]};
  const double lean_i = random.Between(-shear, shear);
  const double lean_j = random.Between(-shear, shear);
  for (std::size_t axis = 0; axis < 3; ++axis) d[2][axis] += lean_i * d[0][axis] + lean_j * d[1][axis];
  for (auto& direction : d) direction = Normalised(direction);
  const auto size = [&] { return static_cast<std::uint32_t>(1 + random.Next() % 600); };
  return volume::Geometry::Create(
             {size(), size(), size()},
             {random.Between(0.2, 8), random.Between(0.2, 8), random.Between(0.2, 8)},
             {{random.Between(-500, 500), random.Between(-500, 500), random.Between(-500, 500)}}, d)
      .value();
}

}  // namespace tomoserve::testing
