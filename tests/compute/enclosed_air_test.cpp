#include "tomoserve/compute/enclosed_air.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "compute/fixtures.h"
#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

// A body of water, elliptic, on a hollow table, with one cylindrical lung on each side from slice 5 to 24.
at::Tensor Chest(const volume::Geometry& geometry, bool lungs) {
  const auto [ni, nj, nk] = geometry.size_ijk();
  at::Tensor hu = at::full({nk, nj, ni}, -1000, at::kFloat);
  std::size_t at = 0;
  for (std::uint32_t k = 0; k < nk; ++k) {
    for (std::uint32_t j = 0; j < nj; ++j) {
      for (std::uint32_t i = 0; i < ni; ++i, ++at) {
        const volume::LpsPoint p =
            geometry.ToLps({{static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}});
        const double x = p.mm[0], y = p.mm[1];
        float& value = testing::Floats(hu)[at];
        if (std::hypot(x / 160, y / 100) < 1) value = 30;
        const bool lung = std::hypot(x - 70, y) < 50 || std::hypot(x + 70, y) < 50;
        if (lungs && lung && k >= 5 && k <= 24) value = -850;
        // Table: a closed shell with foam inside, well apart from the body.
        if (std::abs(x) < 150 && y > 115 && y < 150)
          value = y < 120 || y > 145 || std::abs(x) > 145 ? 0.0f : -900.0f;
      }
    }
  }
  return hu;
}

TEST(EnclosedAirTest, FindsLungsAndLeavesTableAndRoomOut) {
  const auto geometry = testing::AxialGeometry({180, 170, 30}, {2, 2, 5}, {-180, -170, 0});
  const auto air = FindEnclosedAir(Chest(geometry, true), geometry, {2, {}});
  ASSERT_TRUE(air.ok()) << air.status();
  const double expected_ml = 2 * 3.14159265 * 50 * 50 * 100 / 1000;
  EXPECT_NEAR(air->volume_ml, expected_ml, 0.02 * expected_ml);
  EXPECT_EQ(air->first_k, 5u);
  EXPECT_EQ(air->last_k, 24u);
  EXPECT_FALSE(air->touches_in_plane_border);
}

TEST(EnclosedAirTest, LooksAtEveryNthPixelOfFineGrids) {
  const auto geometry = testing::AxialGeometry({400, 400, 30}, {0.9, 0.9, 5}, {-180, -180, 0});
  const auto air = FindEnclosedAir(Chest(geometry, true), geometry, {1, {}});
  const double expected_ml = 2 * 3.14159265 * 50 * 50 * 100 / 1000;
  EXPECT_NEAR(air->volume_ml, expected_ml, 0.02 * expected_ml);
}

TEST(EnclosedAirTest, NothingWhereThereIsNoLung) {
  const auto geometry = testing::AxialGeometry({180, 170, 30}, {2, 2, 5}, {-180, -170, 0});
  const auto air = FindEnclosedAir(Chest(geometry, false), geometry, {2, {}});
  EXPECT_EQ(air->voxels, 0u);
  EXPECT_EQ(air->volume_ml, 0);
  const auto empty = FindEnclosedAir(at::full({30, 170, 180}, -1000, at::kFloat), geometry, {});
  EXPECT_EQ(empty->voxels, 0u);
}

// A device's runs look at the stored values instead (enclosed air is found on the host only, so the suite has
// no placements).
TEST(EnclosedAirTest, StoredValuesGiveTheSameAsTheVolume) {
  for (const double spacing_mm : {2.0, 0.9}) {
    const auto size = static_cast<std::uint32_t>(360 / spacing_mm);
    const auto geometry =
        testing::AxialGeometry({size, size - 11, 30}, {spacing_mm, spacing_mm, 5}, {-180, -180, 0});
    const at::Tensor hu = Chest(geometry, true);
    testing::StoredVolume stored(geometry);
    std::size_t at = 0;
    for (std::uint32_t k = 0; k < 30; ++k) {
      for (std::uint32_t j = 0; j < size - 11; ++j) {
        for (std::uint32_t i = 0; i < size; ++i)
          stored.At(i, j, k) = static_cast<std::int16_t>((testing::Floats(hu)[at++] + 1000) * 2);
      }
    }
    std::vector<StoredSlice> slices = stored.Slices();
    for (StoredSlice& slice : slices) {
      slice.slope = 0.5;
      slice.intercept = -1000;
    }
    const auto expected = FindEnclosedAir(hu, geometry, {2, {}});
    const auto found = FindEnclosedAir(slices, geometry, {2, {}});
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_GT(found->voxels, 0u);
    EXPECT_EQ(found->voxels, expected->voxels);
    EXPECT_EQ(found->first_k, expected->first_k);
    EXPECT_EQ(found->last_k, expected->last_k);
    EXPECT_EQ(found->touches_in_plane_border, expected->touches_in_plane_border);
    slices.pop_back();
    EXPECT_EQ(base::ReasonOf(FindEnclosedAir(slices, geometry, {}).status()), "SLICE_COUNT");
  }
}

TEST(EnclosedAirTest, StoredValuesOfACorrectedVolumeGiveTheSameToo) {
  const auto stored_geometry = testing::AxialGeometry({180, 160, 30}, {2, 2, 5}, {-180, -180, 0});
  const auto geometry = testing::AxialGeometry({180, 180, 30}, {2, 2, 5}, {-180, -180, 0});
  const at::Tensor chest = Chest(stored_geometry, true);
  testing::StoredVolume stored(stored_geometry);
  std::size_t at = 0;
  for (std::uint32_t k = 0; k < 30; ++k) {
    for (std::uint32_t j = 0; j < 160; ++j) {
      for (std::uint32_t i = 0; i < 180; ++i)
        stored.At(i, j, k) = static_cast<std::int16_t>(testing::Floats(chest)[at++]);
    }
  }
  std::vector<StoredSlice> slices = stored.Slices();
  for (std::size_t k = 0; k < slices.size(); ++k) {
    if (k == 12 || k == 13) {
      slices[k] = {};
      slices[k].between = Between{11, 14, static_cast<double>(k - 11) / 3};
    } else {
      slices[k].slope = 1;
      slices[k].intercept = 0;
      slices[k].shift = Shift{{0, 0.6 * static_cast<double>(k)}, {180, 160}, -1024};
    }
  }
  const auto hu = StoredToFloat(slices, geometry.size_ijk(), {2, {}});
  ASSERT_TRUE(hu.ok()) << hu.status();
  const auto expected = FindEnclosedAir(*hu, geometry, {2, {}});
  const auto found = FindEnclosedAir(slices, geometry, {2, {}});
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_GT(found->voxels, 0u);
  EXPECT_EQ(found->voxels, expected->voxels);
  EXPECT_EQ(found->first_k, expected->first_k);
  EXPECT_EQ(found->last_k, expected->last_k);
  EXPECT_EQ(found->touches_in_plane_border, expected->touches_in_plane_border);
}

TEST(EnclosedAirTest, RefusesAnotherShape) {
  const auto geometry = testing::AxialGeometry({4, 5, 6}, {1, 1, 1});
  EXPECT_EQ(base::ReasonOf(FindEnclosedAir(at::full({4, 5, 6}, 0, at::kFloat), geometry, {}).status()),
            "RESAMPLE_SHAPE");
}

}  // namespace
}  // namespace tomoserve::compute
