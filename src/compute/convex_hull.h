// Corners of convex hulls of voxel sets, in exact integer arithmetic. Which points are corners does not
// depend on the grid's spacing or skew, so indices will do.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace tomoserve::compute {

using GridPoint = std::array<std::int64_t, 3>;  // i, j, k

// Appends to `corners` the corners of the planar hull of `points`, which share their coordinate `axis`.
// Reorders `points`. Points on an edge are no corners. Andrew's monotone chain (1979).
void AppendHullCorners(std::vector<GridPoint>& points, std::size_t axis, std::vector<GridPoint>& corners);

// Those of `points` that are corners of the hull of their section across `axis`.
std::vector<GridPoint> SectionCorners(std::vector<GridPoint> points, std::size_t axis);

}  // namespace tomoserve::compute
