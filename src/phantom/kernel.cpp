#include "phantom/kernel.h"

#include <algorithm>
#include <cmath>

namespace tomoserve::phantom {
namespace {

struct Look {
  double image_mm = 0;
  double noise_mm = 0;
  double boost = 0;
};

Look LookOf(Kernel kernel) {
  switch (kernel) {
    case Kernel::kSmooth:
      return {0.9, 1.1, 0};
    case Kernel::kStandard:
      return {0.55, 0.7, 0};
    case Kernel::kSharp:
      return {1.2, 1.2, 0.8};
    case Kernel::kNone:
      break;
  }
  return {};
}

}  // namespace

Blur::Blur(double sigma) {
  const double variance = sigma * sigma;
  if (variance <= 0) return;
  // At a = 1/4 or less a pass takes nothing but high frequencies away.
  passes_ = std::max(1, static_cast<int>(std::ceil(variance / 0.5)));
  a_ = variance / (2 * passes_);
}

void Blur::Line(float* values, std::size_t count, std::size_t step, std::vector<float>& scratch) const {
  const auto side = static_cast<float>(a_);
  const auto middle = static_cast<float>(1 - 2 * a_);
  scratch.resize(count);
  for (int pass = 0; pass < passes_; ++pass) {
    for (std::size_t n = 0; n < count; ++n) scratch[n] = values[n * step];
    for (std::size_t n = 0; n < count; ++n) {
      const float before = scratch[n > 0 ? n - 1 : 0];
      const float after = scratch[n + 1 < count ? n + 1 : n];
      values[n * step] = middle * scratch[n] + side * (before + after);
    }
  }
}

std::vector<double> Blur::Response() const {
  std::vector<double> response{1};
  for (int pass = 0; pass < passes_; ++pass) {
    std::vector<double> next(response.size() + 2, 0.0);
    for (std::size_t n = 0; n < response.size(); ++n) {
      next[n] += a_ * response[n];
      next[n + 1] += (1 - 2 * a_) * response[n];
      next[n + 2] += a_ * response[n];
    }
    response = std::move(next);
  }
  return response;
}

PlaneFilter::PlaneFilter(Kernel kernel, std::size_t nx, std::size_t ny, double x_mm, double y_mm)
    : nx_(nx),
      ny_(ny),
      image_{Blur(LookOf(kernel).image_mm / x_mm), Blur(LookOf(kernel).image_mm / y_mm),
             LookOf(kernel).boost},
      noise_{Blur(LookOf(kernel).noise_mm / x_mm), Blur(LookOf(kernel).noise_mm / y_mm),
             LookOf(kernel).boost},
      noise_scale_(1 / Deviation(noise_)) {}

// Of white noise of deviation 1, afterwards: the root of the sum of squares of the filter's answer.
double PlaneFilter::Deviation(const Stage& stage) {
  const std::vector<double> x = stage.along_x.Response();
  const std::vector<double> y = stage.along_y.Response();
  const auto squares = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value * value;
    return sum;
  };
  const double blurred = squares(x) * squares(y);
  if (stage.boost <= 0) return std::sqrt(blurred);
  const double centre = x[x.size() / 2] * y[y.size() / 2];
  const double b = stage.boost;
  return std::sqrt((1 + b) * (1 + b) - 2 * b * (1 + b) * centre + b * b * blurred);
}

void PlaneFilter::Apply(const Stage& stage, std::vector<float>& plane) {
  if (stage.boost > 0) before_ = plane;
  for (std::size_t y = 0; y < ny_; ++y) stage.along_x.Line(plane.data() + y * nx_, nx_, 1, scratch_);
  for (std::size_t x = 0; x < nx_; ++x) stage.along_y.Line(plane.data() + x, ny_, nx_, scratch_);
  if (stage.boost <= 0) return;
  const auto keep = static_cast<float>(1 + stage.boost);
  const auto take = static_cast<float>(stage.boost);
  for (std::size_t n = 0; n < plane.size(); ++n) plane[n] = keep * before_[n] - take * plane[n];
}

void PlaneFilter::Image(std::vector<float>& plane) { Apply(image_, plane); }

void PlaneFilter::Noise(std::vector<float>& plane) {
  Apply(noise_, plane);
  const auto scale = static_cast<float>(noise_scale_);
  for (float& value : plane) value *= scale;
}

}  // namespace tomoserve::phantom
