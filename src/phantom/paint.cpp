#include <algorithm>
#include <cmath>

#include "phantom/scene.h"

namespace tomoserve::phantom {
namespace {

struct Span {
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Voxels of an axis whose centres lie in [low, high].
Span Within(const Axis& axis, double low, double high) {
  const double last = static_cast<double>(axis.count);
  const double begin = std::clamp(std::ceil((low - axis.first) / axis.step), 0.0, last);
  const double end = std::clamp(std::floor((high - axis.first) / axis.step) + 1, 0.0, last);
  return {static_cast<std::size_t>(begin), static_cast<std::size_t>(std::max(begin, end))};
}

double Square(double x) { return x * x; }

// Painter over one plane.
class Brush {
 public:
  Brush(const Axis& x, const Axis& y, double z, double dz, double blur_mm, Plane& plane)
      : x_(x), y_(y), z_(z), dz_(dz), blur_(blur_mm), plane_(plane) {}

  void Draw(const Box& box) {
    const double through = Coverage(std::max(box.min[2] - z_, z_ - box.max[2]));
    if (through <= 0) return;
    const Span rows = Within(y_, box.min[1] - blur_, box.max[1] + blur_);
    const Span columns = Within(x_, box.min[0] - blur_, box.max[0] + blur_);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      const double y = y_.at(row);
      const double down = through * Coverage(std::max(box.min[1] - y, y - box.max[1]));
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        const double x = x_.at(column);
        const double share = down * Coverage(std::max(box.min[0] - x, x - box.max[0]));
        Mix(row * x_.count + column, share, box.value, Paint::kTissue);
      }
    }
  }

  // Row by row: the voxels that are wholly inside are filled, those in a band around the edge get the share
  // that the (first order) distance from the surface gives.
  void Draw(const Ellipsoid& shape) {
    const double z = z_ - shape.centre[2];
    const double z_outer = Square(z / (shape.half[2] + blur_));
    if (z_outer >= 1) return;
    const double inner_band = 1.5 * blur_;
    const bool has_core =
        shape.half[0] > inner_band && shape.half[1] > inner_band && shape.half[2] > inner_band;
    const double z_inner = has_core ? Square(z / (shape.half[2] - inner_band)) : 1;
    const Span rows =
        Within(y_, shape.centre[1] - shape.half[1] - blur_, shape.centre[1] + shape.half[1] + blur_);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      const double y = y_.at(row) - shape.centre[1];
      const double outer = 1 - Square(y / (shape.half[1] + blur_)) - z_outer;
      if (outer <= 0) continue;
      const double outer_x = (shape.half[0] + blur_) * std::sqrt(outer);
      const double inner = has_core ? 1 - Square(y / (shape.half[1] - inner_band)) - z_inner : -1;
      const double inner_x = inner > 0 ? (shape.half[0] - inner_band) * std::sqrt(inner) : -1;
      const double value = shape.value + shape.value_per_mm_y * y;
      const Span columns = Within(x_, shape.centre[0] - outer_x, shape.centre[0] + outer_x);
      const Span core = inner_x > 0 ? Within(x_, shape.centre[0] - inner_x, shape.centre[0] + inner_x)
                                    : Span{columns.end, columns.end};
      const auto edge = [&](std::size_t from, std::size_t to) {
        for (std::size_t column = from; column < to; ++column) {
          const double x = x_.at(column) - shape.centre[0];
          const double k0 =
              std::sqrt(Square(x / shape.half[0]) + Square(y / shape.half[1]) + Square(z / shape.half[2]));
          const double k1 = std::sqrt(Square(x / Square(shape.half[0])) + Square(y / Square(shape.half[1])) +
                                      Square(z / Square(shape.half[2])));
          const double distance = k1 > 0 ? k0 * (k0 - 1) / k1 : -shape.half[0];
          Mix(row * x_.count + column, Coverage(distance), value, shape.paint);
        }
      };
      edge(columns.begin, std::min(core.begin, columns.end));
      Fill(row * x_.count + core.begin, row * x_.count + core.end, value, shape.paint);
      edge(std::max(core.end, columns.begin), columns.end);
    }
  }

  void Draw(const Tube& tube) {
    const double reach = tube.radius + blur_;
    const double dz = tube.to[2] - tube.from[2];
    double first = 0;
    double last = 1;
    if (std::abs(dz) > 1e-9) {
      const double a = (z_ - reach - tube.from[2]) / dz;
      const double b = (z_ + reach - tube.from[2]) / dz;
      first = std::max(0.0, std::min(a, b));
      last = std::min(1.0, std::max(a, b));
      if (first > last) return;
    } else if (std::abs(z_ - tube.from[2]) > reach) {
      return;
    }
    const auto range = [&](std::size_t d) {
      const double a = tube.from[d] + first * (tube.to[d] - tube.from[d]);
      const double b = tube.from[d] + last * (tube.to[d] - tube.from[d]);
      return std::array<double, 2>{std::min(a, b) - reach, std::max(a, b) + reach};
    };
    const auto [x_low, x_high] = range(0);
    const auto [y_low, y_high] = range(1);
    const Span columns = Within(x_, x_low, x_high);
    const Span rows = Within(y_, y_low, y_high);
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        const Point point{x_.at(column), y_.at(row), z_};
        const double distance = DistanceToSegment(point, tube.from, tube.to) - tube.radius;
        Mix(row * x_.count + column, Coverage(distance), tube.value, tube.paint);
      }
    }
  }

  void Draw(const Sphere& sphere) {
    constexpr int kSamples = 5;
    const double diagonal = std::sqrt(Square(x_.step) + Square(y_.step) + Square(dz_)) / 2;
    const double reach = sphere.radius + diagonal;
    if (std::abs(z_ - sphere.centre[2]) > reach) return;
    const Span columns = Within(x_, sphere.centre[0] - reach, sphere.centre[0] + reach);
    const Span rows = Within(y_, sphere.centre[1] - reach, sphere.centre[1] + reach);
    const auto offset = [](int sample) { return (sample + 0.5) / kSamples - 0.5; };
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        const double x = x_.at(column) - sphere.centre[0];
        const double y = y_.at(row) - sphere.centre[1];
        const double z = z_ - sphere.centre[2];
        const double distance = std::sqrt(x * x + y * y + z * z);
        if (distance >= reach) continue;
        double share = 1;
        if (distance > sphere.radius - diagonal) {
          int inside = 0;
          for (int c = 0; c < kSamples; ++c) {
            for (int b = 0; b < kSamples; ++b) {
              const double rest = Square(z + dz_ * offset(c)) + Square(y + y_.step * offset(b));
              for (int a = 0; a < kSamples; ++a) {
                if (Square(x + x_.step * offset(a)) + rest <= Square(sphere.radius)) ++inside;
              }
            }
          }
          share = static_cast<double>(inside) / (kSamples * kSamples * kSamples);
        }
        const std::size_t at = row * x_.count + column;
        Mix(at, share, sphere.value, sphere.paint);
        if (sphere.label != 0 && share * static_cast<double>(plane_.lung[at]) >= 0.5) {
          plane_.label[at] = sphere.label;
        }
      }
    }
  }

  void Draw(const Disc& disc) {
    const double reach = disc.radius + disc.thickness / 2 + blur_;
    if (std::abs(z_ - disc.centre[2]) > reach) return;
    const Span columns = Within(x_, disc.centre[0] - reach, disc.centre[0] + reach);
    const Span rows = Within(y_, disc.centre[1] - reach, disc.centre[1] + reach);
    const double z = z_ - disc.centre[2];
    // A plate thinner than the ramp keeps its mass.
    const double full = std::min(1.0, disc.thickness / blur_);
    const double half = std::max(disc.thickness, blur_) / 2;
    for (std::size_t row = rows.begin; row < rows.end; ++row) {
      const double y = y_.at(row) - disc.centre[1];
      for (std::size_t column = columns.begin; column < columns.end; ++column) {
        const double x = x_.at(column) - disc.centre[0];
        const double along = x * disc.normal[0] + y * disc.normal[1] + z * disc.normal[2];
        const double away = std::abs(along) - half;
        if (away > blur_ / 2) continue;
        const double from_axis = std::sqrt(std::max(0.0, x * x + y * y + z * z - along * along));
        const double share = full * Coverage(away) * Coverage(from_axis - disc.radius);
        Mix(row * x_.count + column, share, disc.value, Paint::kInLung);
      }
    }
  }

 private:
  // Share of a voxel at this signed distance from a surface (negative: inside).
  double Coverage(double distance) const { return std::clamp(0.5 - distance / blur_, 0.0, 1.0); }

  void Mix(std::size_t at, double share, double value, Paint paint) {
    auto part = static_cast<float>(share);
    if (paint == Paint::kInLung || paint == Paint::kHaze) part *= plane_.lung[at];
    if (paint == Paint::kHaze && plane_.value[at] > static_cast<float>(value)) return;
    plane_.value[at] += part * (static_cast<float>(value) - plane_.value[at]);
    if (paint == Paint::kTissue) plane_.lung[at] *= 1 - part;
    if (paint == Paint::kLung) plane_.lung[at] += part * (1 - plane_.lung[at]);
  }

  void Fill(std::size_t begin, std::size_t end, double value, Paint paint) {
    if (paint == Paint::kInLung || paint == Paint::kHaze) {
      for (std::size_t at = begin; at < end; ++at) Mix(at, 1, value, paint);
      return;
    }
    const auto from = static_cast<std::ptrdiff_t>(begin);
    const auto to = static_cast<std::ptrdiff_t>(end);
    std::fill(plane_.value.begin() + from, plane_.value.begin() + to, static_cast<float>(value));
    std::fill(plane_.lung.begin() + from, plane_.lung.begin() + to, paint == Paint::kLung ? 1.0f : 0.0f);
  }

  const Axis& x_;
  const Axis& y_;
  const double z_;
  const double dz_;
  const double blur_;
  Plane& plane_;
};

}  // namespace

double DistanceToSegment(const Point& point, const Point& from, const Point& to) {
  Point axis{};
  Point offset{};
  double length_squared = 0;
  double along = 0;
  for (std::size_t d = 0; d < 3; ++d) {
    axis[d] = to[d] - from[d];
    offset[d] = point[d] - from[d];
    length_squared += axis[d] * axis[d];
    along += axis[d] * offset[d];
  }
  const double t = length_squared > 0 ? std::clamp(along / length_squared, 0.0, 1.0) : 0;
  double distance_squared = 0;
  for (std::size_t d = 0; d < 3; ++d) distance_squared += Square(offset[d] - t * axis[d]);
  return std::sqrt(distance_squared);
}

bool InsideScaled(const Ellipsoid& ellipsoid, const Point& point, double factor) {
  if (factor <= 0) return false;
  double sum = 0;
  for (std::size_t d = 0; d < 3; ++d) {
    sum += Square((point[d] - ellipsoid.centre[d]) / (ellipsoid.half[d] * factor));
  }
  return sum < 1;
}

void PaintPlane(const Scene& scene, const Axis& x, const Axis& y, double z, double dz, double blur_mm,
                Plane& plane) {
  plane.value.assign(x.count * y.count, static_cast<float>(scene.background));
  plane.lung.assign(x.count * y.count, 0.0f);
  plane.label.assign(x.count * y.count, 0);
  Brush brush(x, y, z, dz, blur_mm, plane);
  for (const Box& box : scene.boxes) brush.Draw(box);
  for (const Ellipsoid& ellipsoid : scene.ellipsoids) brush.Draw(ellipsoid);
  for (const Tube& tube : scene.tubes) brush.Draw(tube);
  for (const Disc& disc : scene.discs) brush.Draw(disc);
  for (const Sphere& sphere : scene.spheres) brush.Draw(sphere);
}

}  // namespace tomoserve::phantom
