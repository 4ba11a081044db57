#include "tomoserve/volume/resampling_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tomoserve/base/status.h"

namespace tomoserve::volume {
namespace {

using ::testing::ElementsAre;

Geometry Grid(std::array<std::uint32_t, 3> size, std::array<double, 3> spacing) {
  return Geometry::Create(size, spacing, {{1, 2, 3}},
                          {LpsVector{-1, 0, 0}, LpsVector{0, -1, 0}, LpsVector{0, 0, 1}})
      .value();
}

TEST(MonaiSpacingTest, CountsVoxelsBetweenFirstAndLastCentre) {
  // 511 * 0.841797 / 1.5 + 1 = 287.77; 63 * 5 / 2 + 1 = 158.5, half to even: 158.
  const auto grid = MonaiSpacing(Grid({512, 512, 64}, {0.841797, 0.841797, 5}), {1.5, 1.5, 2});
  ASSERT_TRUE(grid.ok()) << grid.status();
  EXPECT_THAT(grid->size_ijk(), ElementsAre(288, 288, 158));
  EXPECT_THAT(grid->spacing_mm(), ElementsAre(1.5, 1.5, 2));
  EXPECT_THAT(grid->origin_lps().mm, ElementsAre(1, 2, 3));
  EXPECT_EQ(grid->directions()[0], (LpsVector{-1, 0, 0}));
}

TEST(MonaiSpacingTest, RoundsHalvesToEven) {
  // (n-1)*in/out + 1 = 3.5 and 4.5: both become 4.
  const auto grid = MonaiSpacing(Grid({6, 8, 1}, {1, 1, 1}), {2, 2, 2});
  ASSERT_TRUE(grid.ok());
  EXPECT_THAT(grid->size_ijk(), ElementsAre(4, 4, 1));
}

TEST(MonaiSpacingTest, DoesNothingWhereTheScaleIsNearlyOneAndTheSizeStays) {
  const Geometry nearly = Grid({100, 100, 100}, {1.0005, 1, 0.9995});
  EXPECT_EQ(MonaiSpacing(nearly, {1, 1, 1}).value(), nearly);
  // The scale is as close, but a longer axis gains a voxel.
  const Geometry longer = Grid({2000, 100, 100}, {1.0005, 1, 1});
  EXPECT_THAT(MonaiSpacing(longer, {1, 1, 1})->size_ijk(), ElementsAre(2001, 100, 100));
  // One axis changes: all spacings are the target's.
  const Geometry one = Grid({100, 100, 100}, {1.0005, 1, 2});
  EXPECT_THAT(MonaiSpacing(one, {1, 1, 1})->spacing_mm(), ElementsAre(1, 1, 1));
}

TEST(MonaiSpacingTest, RefusesImpossibleTargets) {
  const Geometry grid = Grid({100, 100, 100}, {1, 1, 1});
  for (const double spacing : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_EQ(base::ReasonOf(MonaiSpacing(grid, {1, spacing, 1}).status()), "SPACING_INVALID");
  }
  EXPECT_EQ(base::ReasonOf(MonaiSpacing(grid, {1e-12, 1, 1}).status()), "GEOMETRY_INVALID");
  EXPECT_EQ(base::ReasonOf(MonaiSpacing(grid, {1e-5, 1e-5, 1}).status()), "GEOMETRY_INVALID");
}

TEST(NnunetSpacingTest, KeepsTheEdgesAndRoundsTheSize) {
  // 512 * 0.9765625 / 2.1 = 238.1; 20 * 2 / 1.6 = 25.
  const auto grid = NnunetSpacing(Grid({512, 512, 20}, {0.9765625, 0.9765625, 2}), {2.1, 2.1, 1.6});
  ASSERT_TRUE(grid.ok()) << grid.status();
  EXPECT_THAT(grid->size_ijk(), ElementsAre(238, 238, 25));
  EXPECT_DOUBLE_EQ(grid->spacing_mm()[0], 500.0 / 238);
  EXPECT_DOUBLE_EQ(grid->spacing_mm()[2], 1.6);
  // The first edge lies half a voxel before the first centre, on both grids.
  EXPECT_DOUBLE_EQ(grid->origin_lps().mm[0], 1 + 0.9765625 / 2 - 500.0 / 238 / 2);
  EXPECT_DOUBLE_EQ(grid->origin_lps().mm[2], 3 - 2.0 / 2 + 1.6 / 2);
}

TEST(NnunetSpacingTest, RoundsHalvesToEvenAndLeavesOneVoxel) {
  const auto grid = NnunetSpacing(Grid({5, 7, 1}, {1, 1, 1}), {2, 2, 10});
  ASSERT_TRUE(grid.ok());
  EXPECT_THAT(grid->size_ijk(), ElementsAre(2, 4, 1));
}

TEST(NnunetSpacingTest, DoesNothingWhereNoSizeChanges) {
  const Geometry nearly = Grid({100, 100, 100}, {1.004, 1, 0.996});
  EXPECT_EQ(NnunetSpacing(nearly, {1, 1, 1}).value(), nearly);
}

TEST(NnunetSpacingTest, RefusesImpossibleTargets) {
  const Geometry grid = Grid({100, 100, 100}, {1, 1, 1});
  EXPECT_EQ(base::ReasonOf(NnunetSpacing(grid, {1, 0, 1}).status()), "SPACING_INVALID");
  EXPECT_EQ(base::ReasonOf(NnunetSpacing(grid, {1e-12, 1, 1}).status()), "GEOMETRY_INVALID");
}

TEST(LowResolutionAxisTest, TheSourceDecidesFirst) {
  EXPECT_EQ(LowResolutionAxis({0.8, 0.8, 5}, {2.4, 2.4, 4}), 2u);
  EXPECT_EQ(LowResolutionAxis({2.4, 2.4, 4}, {0.8, 5, 0.8}), 1u);
  EXPECT_EQ(LowResolutionAxis({5, 0.8, 0.8}, {0.8, 0.8, 5}), 0u);
  EXPECT_EQ(LowResolutionAxis({1, 1, 3}, {2, 2, 2}), std::nullopt) << "not more than three times";
}

TEST(LowResolutionAxisTest, NoneWhereTwoAxesShareTheLargestSpacing) {
  EXPECT_EQ(LowResolutionAxis({0.24, 1.25, 1.25}, {1, 1, 1}), std::nullopt);
  EXPECT_EQ(LowResolutionAxis({0.24, 1.25, 1.25}, {1, 1, 5}), std::nullopt) << "the source has decided";
}

TEST(PartTest, KeepsVoxelCentres) {
  const Geometry grid = Grid({100, 90, 80}, {1, 2, 3});
  const auto part = Part(grid, {{10, 20, 30}, {5, 6, 7}});
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_THAT(part->size_ijk(), ElementsAre(5, 6, 7));
  EXPECT_EQ(part->ToLps({{1, 2, 3}}), grid.ToLps({{11, 22, 33}}));
  EXPECT_EQ(Part(grid, WholeBox(grid)).value(), grid);
  EXPECT_EQ(base::ReasonOf(Part(grid, {{99, 0, 0}, {2, 1, 1}}).status()), "GEOMETRY_INVALID");
  EXPECT_EQ(base::ReasonOf(Part(grid, {{0, 0, 0}, {0, 1, 1}}).status()), "GEOMETRY_INVALID");
}

}  // namespace
}  // namespace tomoserve::volume
