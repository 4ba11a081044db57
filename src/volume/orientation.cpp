#include "tomoserve/volume/orientation.h"

#include <algorithm>
#include <cmath>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

// Anatomical direction: axis of LPS and which way along it.
struct Anatomy {
  int axis = 0;
  bool negative = false;
};

constexpr std::array<std::array<char, 2>, 3> kLetters{{{'L', 'R'}, {'P', 'A'}, {'S', 'I'}}};

using Matrix = std::array<LpsVector, 3>;  // columns

LpsVector Cross(const LpsVector& a, const LpsVector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double Dot(const LpsVector& a, const LpsVector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// Orthogonal factor of the polar decomposition, by Newton's iteration X <- (X + X^-T) / 2 (Higham 1986).
// Geometry guarantees an invertible matrix; it converges quadratically from there.
Matrix PolarFactor(Matrix x) {
  constexpr int kMaxIterations = 60;
  for (int iteration = 0; iteration < kMaxIterations; ++iteration) {
    const double determinant = Dot(x[0], Cross(x[1], x[2]));
    Matrix next;
    double change = 0;
    for (std::size_t column = 0; column < 3; ++column) {
      const LpsVector inverse_transposed = Cross(x[(column + 1) % 3], x[(column + 2) % 3]);
      for (std::size_t row = 0; row < 3; ++row) {
        next[column][row] = (x[column][row] + inverse_transposed[row] / determinant) / 2;
        change = std::max(change, std::abs(next[column][row] - x[column][row]));
      }
    }
    x = next;
    if (change < 1e-15) break;
  }
  return x;
}

std::array<Anatomy, 3> AnatomyOf(const Geometry& geometry) {
  Matrix r = PolarFactor(geometry.directions());
  const auto strongest = [](const LpsVector& column) {
    return std::max({std::abs(column[0]), std::abs(column[1]), std::abs(column[2])});
  };
  std::array<double, 3> strength{};
  for (std::size_t axis = 0; axis < 3; ++axis) strength[axis] = strongest(r[axis]);
  std::array<std::size_t, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return strength[a] > strength[b]; });
  std::array<Anatomy, 3> anatomy{};
  std::array<bool, 3> taken{};
  for (const std::size_t axis : order) {
    int best = -1;
    for (int candidate = 0; candidate < 3; ++candidate) {
      const auto at = static_cast<std::size_t>(candidate);
      if (taken[at]) continue;
      if (best < 0 || std::abs(r[axis][at]) > std::abs(r[axis][static_cast<std::size_t>(best)])) {
        best = candidate;
      }
    }
    const auto chosen = static_cast<std::size_t>(best);
    taken[chosen] = true;
    anatomy[axis] = {best, r[axis][chosen] < 0};
  }
  return anatomy;
}

}  // namespace

std::string AxisCode(const Geometry& geometry) {
  std::string code;
  for (const Anatomy& anatomy : AnatomyOf(geometry)) {
    code += kLetters[static_cast<std::size_t>(anatomy.axis)][anatomy.negative ? 1 : 0];
  }
  return code;
}

absl::StatusOr<Reorientation> ReorientationTo(const Geometry& geometry, std::string_view code) {
  const auto invalid = [&] {
    return base::Error(absl::StatusCode::kInvalidArgument, "ORIENTATION_INVALID", code,
                       "an orientation names each of L/R, A/P, S/I once, in upper case");
  };
  if (code.size() != 3) return invalid();
  const std::array<Anatomy, 3> source = AnatomyOf(geometry);
  Reorientation result;
  std::array<bool, 3> seen{};
  for (std::size_t target = 0; target < 3; ++target) {
    bool found = false;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const auto letter = std::find(kLetters[axis].begin(), kLetters[axis].end(), code[target]);
      if (letter == kLetters[axis].end()) continue;
      if (seen[axis]) return invalid();
      seen[axis] = true;
      found = true;
      const bool negative = letter != kLetters[axis].begin();
      for (std::size_t from = 0; from < 3; ++from) {
        if (source[from].axis != static_cast<int>(axis)) continue;
        result.source_axis[target] = static_cast<int>(from);
        result.flip[target] = source[from].negative != negative;
      }
    }
    if (!found) return invalid();
  }
  return result;
}

absl::StatusOr<Geometry> Reoriented(const Geometry& geometry, const Reorientation& reorientation) {
  std::array<bool, 3> seen{};
  for (const int axis : reorientation.source_axis) {
    if (axis < 0 || axis > 2 || seen[static_cast<std::size_t>(axis)]) {
      return base::Error(absl::StatusCode::kInvalidArgument, "ORIENTATION_INVALID", "source_axis",
                         "a reorientation uses each source axis once");
    }
    seen[static_cast<std::size_t>(axis)] = true;
  }
  std::array<std::uint32_t, 3> size{};
  std::array<double, 3> spacing{};
  std::array<LpsVector, 3> directions{};
  ContinuousVoxel first;
  for (std::size_t target = 0; target < 3; ++target) {
    const auto source = static_cast<std::size_t>(reorientation.source_axis[target]);
    size[target] = geometry.size_ijk()[source];
    spacing[target] = geometry.spacing_mm()[source];
    directions[target] = geometry.directions()[source];
    if (reorientation.flip[target]) {
      first.ijk[source] = static_cast<double>(size[target] - 1);
      for (double& component : directions[target]) component = 0.0 - component;  // never -0
    }
  }
  return Geometry::Create(size, spacing, geometry.ToLps(first), directions);
}

}  // namespace tomoserve::volume
