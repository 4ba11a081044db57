#include "tomoserve/volume/orientation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tomoserve/base/status.h"
#include "volume/random_geometry.h"

namespace tomoserve::volume {
namespace {

using ::testing::ElementsAre;

Geometry Grid(std::array<LpsVector, 3> directions) {
  for (LpsVector& direction : directions) direction = testing::Normalised(direction);
  return Geometry::Create({10, 20, 30}, {1, 2, 3}, {{5, 6, 7}}, directions).value();
}

TEST(OrientationTest, NamesWhereAxesRunTowards) {
  EXPECT_EQ(AxisCode(Grid({{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}})), "LPS");
  EXPECT_EQ(AxisCode(Grid({{{-1, 0, 0}, {0, -1, 0}, {0, 0, 1}}})), "RAS");
  // Sagittal: columns run back, rows down, slices to the left.
  EXPECT_EQ(AxisCode(Grid({{{0, 1, 0}, {0, 0, -1}, {1, 0, 0}}})), "PIL");
  // Coronal, slices from back to front.
  EXPECT_EQ(AxisCode(Grid({{{1, 0, 0}, {0, 0, -1}, {0, -1, 0}}})), "LIA");
}

TEST(OrientationTest, ObliqueAxesGetTheClosestCodeFromTheClearestAxisOn) {
  EXPECT_EQ(AxisCode(Grid({{{1, 0.3, 0.1}, {-0.3, 1, 0.2}, {0, -0.2, 1}}})), "LPS");
  // 45 degrees: i and j both lean as much to L as to P; the first of a tie takes the first letter.
  EXPECT_EQ(AxisCode(Grid({{{1, 1, 0}, {-1, 1, 0}, {0, 0, 1}}})), "LPS");
  // i is closest to P by a hair but k is clearer about P than i is: k is labelled first.
  EXPECT_EQ(AxisCode(Grid({{{0, 0.8, 0.6}, {1, 0, 0}, {0, -0.6, 0.8}}})), "PLS");
  // Sheared (gantry tilt): the shearless part decides.
  EXPECT_EQ(AxisCode(Grid({{{1, 0, 0}, {0, 1, 0}, {0, 0.9, 1}}})), "LPS");
}

TEST(OrientationTest, ReorientsToRasByHand) {
  const Geometry lps = Grid({{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  const auto to_ras = ReorientationTo(lps, "RAS");
  ASSERT_TRUE(to_ras.ok());
  EXPECT_THAT(to_ras->source_axis, ElementsAre(0, 1, 2));
  EXPECT_THAT(to_ras->flip, ElementsAre(true, true, false));
  const auto ras = Reoriented(lps, *to_ras);
  ASSERT_TRUE(ras.ok());
  EXPECT_THAT(ras->origin_lps().mm, ElementsAre(5 + 9 * 1, 6 + 19 * 2, 7));
  EXPECT_EQ(AxisCode(*ras), "RAS");

  const auto to_sla = ReorientationTo(lps, "SLA");
  ASSERT_TRUE(to_sla.ok());
  EXPECT_THAT(to_sla->source_axis, ElementsAre(2, 0, 1));
  EXPECT_THAT(to_sla->flip, ElementsAre(false, false, true));
  const auto sla = Reoriented(lps, *to_sla);
  ASSERT_TRUE(sla.ok());
  EXPECT_THAT(sla->size_ijk(), ElementsAre(30, 10, 20));
  EXPECT_THAT(sla->spacing_mm(), ElementsAre(3, 1, 2));
}

TEST(OrientationTest, EveryCodeKeepsEveryVoxelCentre) {
  testing::Random random(3);
  for (int round = 0; round < 20; ++round) {
    const Geometry from = testing::RandomGeometry(random, 0.2);
    for (const char* permutation : {"xyz", "xzy", "yxz", "yzx", "zxy", "zyx"}) {
      for (unsigned signs = 0; signs < 8; ++signs) {
        std::string code;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const char* const letters = permutation[axis] == 'x'   ? "LR"
                                      : permutation[axis] == 'y' ? "PA"
                                                                 : "SI";
          code += letters[(signs >> axis) & 1];
        }
        const auto reorientation = ReorientationTo(from, code);
        ASSERT_TRUE(reorientation.ok());
        const auto to = Reoriented(from, *reorientation);
        ASSERT_TRUE(to.ok());
        EXPECT_EQ(AxisCode(*to), code);
        // Voxel (2, 3, 5) of the new grid, looked up in the old one.
        const std::array<double, 3> voxel{2, 3, 5};
        ContinuousVoxel old;
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const auto source = static_cast<std::size_t>(reorientation->source_axis[axis]);
          old.ijk[source] = reorientation->flip[axis]
                                ? static_cast<double>(from.size_ijk()[source]) - 1 - voxel[axis]
                                : voxel[axis];
        }
        for (std::size_t d = 0; d < 3; ++d) {
          EXPECT_NEAR(to->ToLps({voxel}).mm[d], from.ToLps(old).mm[d], 1e-8);
        }
      }
    }
  }
}

TEST(OrientationTest, RefusesWhatIsNoCode) {
  const Geometry grid = Grid({{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}});
  for (const char* code : {"", "RA", "RASP", "RAX", "RLS", "ras", "RAA"}) {
    EXPECT_EQ(base::ReasonOf(ReorientationTo(grid, code).status()), "ORIENTATION_INVALID") << code;
  }
  EXPECT_FALSE(Reoriented(grid, {{0, 0, 2}, {}}).ok());
  EXPECT_FALSE(Reoriented(grid, {{0, 1, 3}, {}}).ok());
  EXPECT_FALSE(Reoriented(grid, {{-1, 1, 2}, {}}).ok());
}

}  // namespace
}  // namespace tomoserve::volume
