// Anatomical axis codes of grids, and the axis permutation with flips that leads from one to another.
//
// A code has one letter per axis, naming where the axis runs *towards*: L/R the patient's left or right
// (+x/-x in LPS), P/A posterior or anterior (+y/-y), S/I superior or inferior (+z/-z). "LPS" is the usual
// axial CT; NIfTI's "RAS" runs along -x, -y, +z of LPS.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tomoserve/volume/geometry.h"

namespace tomoserve::volume {

// Axis a of the new grid is axis source_axis[a] of the old one, reversed where flip[a].
struct Reorientation {
  std::array<int, 3> source_axis{0, 1, 2};
  std::array<bool, 3> flip{};
  bool operator==(const Reorientation&) const = default;
};

// Closest code of a grid. Oblique and sheared grids follow nibabel's io_orientation (5.4): the orthogonal
// polar factor of the directions, axes labelled from the most to the least clearly aligned one.
std::string AxisCode(const Geometry& geometry);

// From `geometry` to the grid whose axes run towards the letters of `code` (upper case), as close as
// flips and permutations get. Errors: kInvalidArgument ORIENTATION_INVALID (value: the code) where it does
// not name each of L/R, A/P, S/I once.
absl::StatusOr<Reorientation> ReorientationTo(const Geometry& geometry, std::string_view code);

// Grid of the permuted and flipped array: the same voxel centres under other indices. Errors:
// kInvalidArgument ORIENTATION_INVALID where source_axis is no permutation.
absl::StatusOr<Geometry> Reoriented(const Geometry& geometry, const Reorientation& reorientation);

}  // namespace tomoserve::volume
