// The look of a reconstruction kernel, one axial plane at a time. Private to the room.
#pragma once

#include <cstddef>
#include <vector>

#include "tomoserve/phantom/phantom.h"

namespace tomoserve::phantom {

// Gaussian blur from exact operations only: passes of (a, 1 - 2a, a), whose variances of 2a add up. The edge
// voxel goes on beyond the edge.
class Blur {
 public:
  // `sigma` in voxels; 0 does nothing.
  explicit Blur(double sigma);
  // Along a line of `count` values that lie `step` apart.
  void Line(float* values, std::size_t count, std::size_t step, std::vector<float>& scratch) const;
  // The answer to a single 1: 2 * reach + 1 values.
  std::vector<double> Response() const;

 private:
  int passes_ = 0;
  double a_ = 0;
};

class PlaneFilter {
 public:
  // Planes of nx * ny values [y][x] with these spacings in mm.
  PlaneFilter(Kernel kernel, std::size_t nx, std::size_t ny, double x_mm, double y_mm);
  // Blurs (or sharpens) an image.
  void Image(std::vector<float>& plane);
  // Correlates white noise; its deviation stays.
  void Noise(std::vector<float>& plane);

 private:
  struct Stage {
    Blur along_x;
    Blur along_y;
    double boost = 0;  // out = (1 + boost) * in - boost * blurred; 0: out = blurred
  };
  void Apply(const Stage& stage, std::vector<float>& plane);
  static double Deviation(const Stage& stage);

  const std::size_t nx_;
  const std::size_t ny_;
  const Stage image_;
  const Stage noise_;
  const double noise_scale_;
  std::vector<float> before_;
  std::vector<float> scratch_;
};

}  // namespace tomoserve::phantom
