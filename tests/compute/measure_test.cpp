// Measuring works on runs, which are the host's in every placement.
#include "tomoserve/compute/measure.h"

#include <gtest/gtest.h>

#include <numbers>

#include "compute/fixtures.h"
#include "random.h"
#include "volume/random_geometry.h"

namespace tomoserve::compute {
namespace {

// A label map of ones where `inside` says so, its runs as one object.
struct Shape {
  std::vector<std::uint8_t> labels;
  LabelGrid<const std::uint8_t> grid;
  std::vector<RowRun> runs;
};

template <typename Inside>
Shape MakeShape(const volume::Geometry& geometry, Inside inside) {
  const auto [ni, nj, nk] = geometry.size_ijk();
  Shape shape;
  for (std::uint32_t k = 0; k < nk; ++k) {
    for (std::uint32_t j = 0; j < nj; ++j) {
      for (std::uint32_t i = 0; i < ni; ++i) {
        shape.labels.push_back(
            inside(geometry.ToLps({{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}}),
                   i, j, k)
                ? 1
                : 0);
      }
    }
  }
  shape.grid = {shape.labels, {nk, nj, ni}};
  const ComponentSet set = FindComponents<std::uint8_t>(shape.grid, {}).value();
  shape.runs = set.runs;
  std::sort(shape.runs.begin(), shape.runs.end(), [](const RowRun& a, const RowRun& b) {
    return std::tie(a.k, a.j, a.first_i) < std::tie(b.k, b.j, b.first_i);
  });
  return shape;
}

TEST(MeasureTest, BoxHasExactExtentAndDiameters) {
  const auto geometry = testing::AxialGeometry({20, 20, 20}, {0.5, 1, 2}, {100, -50, 7});
  const Shape shape = MakeShape(geometry, [](const auto&, auto i, auto j, auto k) {
    return i >= 2 && i <= 9 && j >= 3 && j <= 5 && k >= 4 && k <= 8;
  });
  const Extent extent = MeasureExtent(shape.runs, geometry);
  EXPECT_EQ(extent.voxels, 8u * 3 * 5);
  EXPECT_EQ(extent.centroid_lps.mm, (std::array<double, 3>{100 + 5.5 * 0.5, -50 + 4, 7 + 12}));
  EXPECT_EQ(extent.box_min_lps.mm, (std::array<double, 3>{100 + 1 - 0.25, -50 + 3 - 0.5, 7 + 8 - 1}));
  EXPECT_EQ(extent.box_max_lps.mm, (std::array<double, 3>{100 + 4.5 + 0.25, -50 + 5 + 0.5, 7 + 16 + 1}));
  EXPECT_EQ(extent.extent_mm, (std::array<double, 3>{4, 3, 10}));
  EXPECT_EQ(extent.key_slice_k, 4);
  EXPECT_FALSE(extent.touches_volume_edge);
  const Diameters diameters = MeasureDiameters(shape.runs, geometry);
  EXPECT_NEAR(diameters.longest_3d_mm, std::sqrt(3.5 * 3.5 + 2 * 2 + 8 * 8), 1e-12);
  EXPECT_NEAR(diameters.long_axis_mm, std::hypot(3.5, 2.0), 1e-12);
  // Width of a rectangle across its own diagonal: twice area over diagonal.
  EXPECT_NEAR(diameters.short_axis_mm, 2 * 3.5 * 2 / std::hypot(3.5, 2.0), 1e-12);
  EXPECT_EQ(diameters.axes_slice_k, 4);
  // All but the inner 6 x 1 x 3 voxels lie at the surface.
  EXPECT_EQ(CountSurfaceVoxels<std::uint8_t>(shape.runs, shape.grid), 8u * 3 * 5 - 6 * 1 * 3);
}

TEST(MeasureTest, SphereOnAnAnisotropicGrid) {
  const auto geometry = testing::AxialGeometry({60, 60, 40}, {0.7, 0.7, 1.25}, {-30, 10, 5});
  const std::array<double, 3> centre{-30 + 20.3, 10 + 21.1, 5 + 24.2};
  constexpr double kRadius = 12;
  const Shape shape = MakeShape(geometry, [&](const volume::LpsPoint& p, auto, auto, auto) {
    return std::hypot(p.mm[0] - centre[0], p.mm[1] - centre[1], p.mm[2] - centre[2]) <= kRadius;
  });
  const Extent extent = MeasureExtent(shape.runs, geometry);
  const double volume_ml = static_cast<double>(extent.voxels) * geometry.voxel_volume_ml();
  EXPECT_NEAR(volume_ml, 4.0 / 3 * std::numbers::pi * kRadius * kRadius * kRadius / 1000, 0.02 * volume_ml);
  for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(extent.centroid_lps.mm[c], centre[c], 0.1);
  const Diameters diameters = MeasureDiameters(shape.runs, geometry);
  EXPECT_LE(diameters.longest_3d_mm, 2 * kRadius);
  EXPECT_NEAR(diameters.longest_3d_mm, 2 * kRadius, VoxelDiagonalMm(geometry));
  EXPECT_NEAR(diameters.long_axis_mm, 2 * kRadius, PixelDiagonalMm(geometry));
  EXPECT_NEAR(diameters.short_axis_mm, 2 * kRadius, 2 * PixelDiagonalMm(geometry));
  EXPECT_NEAR(geometry.ToLps({{0, 0, static_cast<double>(extent.key_slice_k)}}).mm[2], centre[2], 1.25);
}

TEST(MeasureTest, SingleVoxelAndEdges) {
  const auto geometry = testing::AxialGeometry({5, 5, 5}, {1, 1, 1});
  const std::vector<RowRun> inside{{2, 2, 2, 2}};
  EXPECT_FALSE(MeasureExtent(inside, geometry).touches_volume_edge);
  EXPECT_EQ(MeasureDiameters(inside, geometry).longest_3d_mm, 0);
  EXPECT_EQ(MeasureDiameters(inside, geometry).axes_slice_k, 2);
  for (const RowRun& run : {RowRun{0, 2, 2, 2}, RowRun{4, 2, 2, 2}, RowRun{2, 0, 2, 2}, RowRun{2, 4, 2, 2},
                            RowRun{2, 2, 0, 2}, RowRun{2, 2, 2, 4}}) {
    EXPECT_TRUE(MeasureExtent(std::vector{run}, geometry).touches_volume_edge);
  }
}

TEST(MeasureTest, KeySliceHasTheLargestCrossSection) {
  const auto geometry = testing::AxialGeometry({30, 5, 5}, {1, 1, 1});
  // Slice 1: 5 voxels in two runs, slice 2: 6 voxels, slice 3: 6 voxels, the first of equals counts.
  const std::vector<RowRun> runs{{1, 1, 0, 2}, {1, 2, 0, 1}, {2, 1, 0, 5}, {3, 1, 0, 2}, {3, 2, 0, 2}};
  EXPECT_EQ(MeasureExtent(runs, geometry).key_slice_k, 2);
}

TEST(MeasureTest, DiametersEqualBruteForceOnObliqueAndShearedGrids) {
  testing::Random grids(8);
  testing::Random random(9);
  for (int round = 0; round < 30; ++round) {
    const volume::Geometry any = testing::RandomGeometry(grids, round % 2 == 0 ? 0 : 0.3);
    const auto geometry =
        volume::Geometry::Create({14, 12, 10}, any.spacing_mm(), any.origin_lps(), any.directions()).value();
    const double density = random.Between(0.01, 0.5);
    const Shape shape =
        MakeShape(geometry, [&](const auto&, auto, auto, auto) { return random.Between(0, 1) < density; });
    if (shape.runs.empty()) continue;
    std::vector<std::pair<volume::LpsPoint, std::int32_t>> points;
    std::array<double, 3> low{1e9, 1e9, 1e9};
    std::array<double, 3> high{-1e9, -1e9, -1e9};
    std::array<double, 3> sum{};
    for (const RowRun& run : shape.runs) {
      for (std::int32_t i = run.first_i; i <= run.last_i; ++i) {
        points.emplace_back(geometry.ToLps({{static_cast<double>(i), static_cast<double>(run.j),
                                             static_cast<double>(run.k)}}),
                            run.k);
        for (std::size_t c = 0; c < 3; ++c) sum[c] += points.back().first.mm[c];
        for (int corner = 0; corner < 8; ++corner) {
          const volume::LpsPoint edge =
              geometry.ToLps({{i + ((corner & 1) != 0 ? 0.5 : -0.5), run.j + ((corner & 2) != 0 ? 0.5 : -0.5),
                               run.k + ((corner & 4) != 0 ? 0.5 : -0.5)}});
          for (std::size_t c = 0; c < 3; ++c) {
            low[c] = std::min(low[c], edge.mm[c]);
            high[c] = std::max(high[c], edge.mm[c]);
          }
        }
      }
    }
    double longest = 0;
    double long_axis = 0;
    for (const auto& [a, ka] : points) {
      for (const auto& [b, kb] : points) {
        const double distance = std::hypot(a.mm[0] - b.mm[0], a.mm[1] - b.mm[1], a.mm[2] - b.mm[2]);
        longest = std::max(longest, distance);
        if (ka == kb) long_axis = std::max(long_axis, distance);
      }
    }
    const Diameters diameters = MeasureDiameters(shape.runs, geometry);
    EXPECT_NEAR(diameters.longest_3d_mm, longest, 1e-9);
    EXPECT_NEAR(diameters.long_axis_mm, long_axis, 1e-9);
    EXPECT_LE(diameters.short_axis_mm, diameters.long_axis_mm + 1e-9);
    const Extent extent = MeasureExtent(shape.runs, geometry);
    EXPECT_EQ(extent.voxels, points.size());
    for (std::size_t c = 0; c < 3; ++c) {
      EXPECT_NEAR(extent.box_min_lps.mm[c], low[c], 1e-9);
      EXPECT_NEAR(extent.box_max_lps.mm[c], high[c], 1e-9);
      EXPECT_NEAR(extent.centroid_lps.mm[c], sum[c] / static_cast<double>(points.size()), 1e-9);
    }
  }
}

TEST(MeasureTest, DiagonalsOfAVoxel) {
  const auto geometry = testing::AxialGeometry({5, 5, 5}, {3, 4, 12});
  EXPECT_NEAR(PixelDiagonalMm(geometry), 5, 1e-12);
  EXPECT_NEAR(VoxelDiagonalMm(geometry), 13, 1e-12);
}

}  // namespace
}  // namespace tomoserve::compute
