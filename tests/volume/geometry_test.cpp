#include "tomoserve/volume/geometry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tomoserve/base/status.h"
#include "volume/random_geometry.h"

namespace tomoserve::volume {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

constexpr std::array<LpsVector, 3> kAxial{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};

absl::StatusOr<Geometry> WithSpacing(double spacing) {
  return Geometry::Create({2, 2, 2}, {1, spacing, 1}, {}, kAxial);
}

TEST(GeometryTest, PlacesVoxelCentresAsTheStandardSays) {
  const auto geometry = Geometry::Create({512, 512, 64}, {0.5, 0.75, 5}, {{-228, -93, -439}}, kAxial);
  ASSERT_TRUE(geometry.ok()) << geometry.status();
  EXPECT_THAT(geometry->ToLps({{0, 0, 0}}).mm, ElementsAre(-228, -93, -439));
  EXPECT_THAT(geometry->ToLps({{2, 4, 3}}).mm, ElementsAre(-227, -90, -424));
  EXPECT_THAT(geometry->ToVoxel({{-227, -90, -424}}).ijk,
              ElementsAre(DoubleNear(2, 1e-12), DoubleNear(4, 1e-12), DoubleNear(3, 1e-12)));
  EXPECT_EQ(geometry->voxels(), 512u * 512u * 64u);
  EXPECT_DOUBLE_EQ(geometry->voxel_volume_ml(), 0.5 * 0.75 * 5 / 1000);
}

TEST(GeometryTest, ToVoxelInvertsToLpsOnRandomObliqueAndShearedGrids) {
  testing::Random random(7);
  for (int round = 0; round < 500; ++round) {
    const Geometry geometry = testing::RandomGeometry(random, /*shear=*/round % 2 == 0 ? 0 : 0.4);
    for (int point = 0; point < 10; ++point) {
      const ContinuousVoxel voxel{
          {random.Between(-50, 700), random.Between(-50, 700), random.Between(-50, 700)}};
      const ContinuousVoxel back = geometry.ToVoxel(geometry.ToLps(voxel));
      for (std::size_t axis = 0; axis < 3; ++axis) EXPECT_NEAR(back.ijk[axis], voxel.ijk[axis], 1e-8);
    }
  }
}

TEST(GeometryTest, SurvivesItsMessage) {
  testing::Random random(8);
  for (int round = 0; round < 50; ++round) {
    const Geometry geometry = testing::RandomGeometry(random, 0.1);
    const auto back = Geometry::FromProto(geometry.ToProto());
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, geometry);
  }
}

TEST(GeometryTest, ShearedVoxelsHaveTheVolumeOfTheirCell) {
  const double angle = 14 * std::acos(-1.0) / 180;
  const auto geometry = Geometry::Create(
      {10, 10, 10}, {1, 1, 5}, {},
      {LpsVector{1, 0, 0}, LpsVector{0, 1, 0}, LpsVector{0, std::sin(angle), std::cos(angle)}});
  ASSERT_TRUE(geometry.ok());
  EXPECT_NEAR(geometry->voxel_volume_ml(), 5 * std::cos(angle) / 1000, 1e-12);
}

TEST(GeometryTest, RefusesWhatIsNoGrid) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double spacing : {0.0, -1.0, nan, infinity}) {
    const auto result = WithSpacing(spacing);
    EXPECT_EQ(base::ReasonOf(result.status()), "GEOMETRY_INVALID");
    EXPECT_EQ(base::ValueOf(result.status()), "spacing_mm");
  }
  const auto field = [](const absl::StatusOr<Geometry>& result) { return base::ValueOf(result.status()); };
  EXPECT_EQ(field(Geometry::Create({2, 0, 2}, {1, 1, 1}, {}, kAxial)), "size_ijk");
  EXPECT_EQ(field(Geometry::Create({1u << 20, 1u << 20, 2}, {1, 1, 1}, {}, kAxial)), "size_ijk");
  EXPECT_EQ(field(Geometry::Create({2, 2, 2}, {1, 1, 1}, {{0, nan, 0}}, kAxial)), "origin_lps");
  auto directions = kAxial;
  directions[1] = {0, 1.01, 0};
  EXPECT_EQ(field(Geometry::Create({2, 2, 2}, {1, 1, 1}, {}, directions)), "directions");
  directions[1] = {1, 0, 0};
  EXPECT_EQ(field(Geometry::Create({2, 2, 2}, {1, 1, 1}, {}, directions)), "directions");
  directions[1] = {0, nan, 0};
  EXPECT_EQ(field(Geometry::Create({2, 2, 2}, {1, 1, 1}, {}, directions)), "directions");
  EXPECT_TRUE(Geometry::Create({1u << 20, 1u << 20, 1}, {1, 1, 1}, {}, kAxial).ok());
}

TEST(GeometryTest, RefusesMessagesWithMissingNumbers) {
  const v1::Geometry whole = Geometry::Create({2, 3, 4}, {1, 1, 1}, {}, kAxial)->ToProto();
  ASSERT_TRUE(Geometry::FromProto(whole).ok());
  v1::Geometry broken = whole;
  broken.mutable_direction_k()->RemoveLast();
  EXPECT_EQ(base::ValueOf(Geometry::FromProto(broken).status()), "directions");
  broken = whole;
  broken.add_size_ijk(3);
  EXPECT_EQ(base::ValueOf(Geometry::FromProto(broken).status()), "size_ijk");
  broken = whole;
  broken.clear_origin_lps();
  EXPECT_EQ(base::ValueOf(Geometry::FromProto(broken).status()), "origin_lps");
  EXPECT_FALSE(Geometry::FromProto({}).ok());
}

}  // namespace
}  // namespace tomoserve::volume
