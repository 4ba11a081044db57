#include "compute/convex_hull.h"

#include <algorithm>

namespace tomoserve::compute {

void AppendHullCorners(std::vector<GridPoint>& points, std::size_t axis, std::vector<GridPoint>& corners) {
  const std::size_t u = axis == 0 ? 1 : 0;
  const std::size_t v = axis == 2 ? 1 : 2;
  std::sort(points.begin(), points.end(),
            [&](const GridPoint& a, const GridPoint& b) { return a[u] != b[u] ? a[u] < b[u] : a[v] < b[v]; });
  points.erase(std::unique(points.begin(), points.end()), points.end());
  if (points.size() < 3) {
    corners.insert(corners.end(), points.begin(), points.end());
    return;
  }
  const auto turns_left = [&](const GridPoint& a, const GridPoint& b, const GridPoint& c) {
    return (b[u] - a[u]) * (c[v] - a[v]) - (b[v] - a[v]) * (c[u] - a[u]) > 0;
  };
  std::vector<GridPoint> hull;
  const auto add_chain = [&](auto begin, auto end) {
    const std::size_t base = hull.size();
    for (auto point = begin; point != end; ++point) {
      while (hull.size() >= base + 2 && !turns_left(hull[hull.size() - 2], hull.back(), *point)) {
        hull.pop_back();
      }
      hull.push_back(*point);
    }
    hull.pop_back();  // the other chain starts with it
  };
  add_chain(points.begin(), points.end());
  add_chain(points.rbegin(), points.rend());
  corners.insert(corners.end(), hull.begin(), hull.end());
}

std::vector<GridPoint> SectionCorners(std::vector<GridPoint> points, std::size_t axis) {
  std::stable_sort(points.begin(), points.end(),
                   [axis](const GridPoint& a, const GridPoint& b) { return a[axis] < b[axis]; });
  std::vector<GridPoint> corners;
  std::vector<GridPoint> section;
  for (std::size_t begin = 0; begin < points.size();) {
    std::size_t end = begin;
    while (end < points.size() && points[end][axis] == points[begin][axis]) ++end;
    section.assign(points.begin() + static_cast<std::ptrdiff_t>(begin),
                   points.begin() + static_cast<std::ptrdiff_t>(end));
    AppendHullCorners(section, axis, corners);
    begin = end;
  }
  return corners;
}

}  // namespace tomoserve::compute
