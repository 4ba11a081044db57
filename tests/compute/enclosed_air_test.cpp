#include "tomoserve/compute/enclosed_air.h"

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <functional>

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
  const auto air = FindEnclosedAir(Chest(geometry, true), geometry, WholeAreas(geometry.size_ijk()), {2, {}});
  ASSERT_TRUE(air.ok()) << air.status();
  const double expected_ml = 2 * 3.14159265 * 50 * 50 * 100 / 1000;
  EXPECT_NEAR(air->volume_ml, expected_ml, 0.02 * expected_ml);
  EXPECT_EQ(air->first_k, 5u);
  EXPECT_EQ(air->last_k, 24u);
  EXPECT_FALSE(air->touches_in_plane_border);
}

TEST(EnclosedAirTest, LooksAtEveryNthPixelOfFineGrids) {
  const auto geometry = testing::AxialGeometry({400, 400, 30}, {0.9, 0.9, 5}, {-180, -180, 0});
  const auto air = FindEnclosedAir(Chest(geometry, true), geometry, WholeAreas(geometry.size_ijk()), {1, {}});
  const double expected_ml = 2 * 3.14159265 * 50 * 50 * 100 / 1000;
  EXPECT_NEAR(air->volume_ml, expected_ml, 0.02 * expected_ml);
}

TEST(EnclosedAirTest, NothingWhereThereIsNoLung) {
  const auto geometry = testing::AxialGeometry({180, 170, 30}, {2, 2, 5}, {-180, -170, 0});
  const auto air =
      FindEnclosedAir(Chest(geometry, false), geometry, WholeAreas(geometry.size_ijk()), {2, {}});
  EXPECT_EQ(air->voxels, 0u);
  EXPECT_EQ(air->volume_ml, 0);
  const auto empty = FindEnclosedAir(at::full({30, 170, 180}, -1000, at::kFloat), geometry,
                                     WholeAreas(geometry.size_ijk()), {});
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
    const auto expected = FindEnclosedAir(hu, geometry, WholeAreas(geometry.size_ijk()), {2, {}});
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

// The chest as slices of `stored_size` pixels of 2 mm that begin at -180 mm, each shifted further along i and
// j, with two that are interpolated.
class CorrectedChest {
 public:
  using IsPadding = std::function<bool(double x, double y)>;  // mm

  CorrectedChest(
      std::array<std::uint32_t, 2> stored_size, std::array<double, 2> shift_ij, std::int16_t padding = 0,
      const IsPadding& is_padding = [](double, double) { return false; })
      : stored_geometry_(
            testing::AxialGeometry({stored_size[0], stored_size[1], 30}, {2, 2, 5}, {-180, -180, 0})),
        geometry_(testing::AxialGeometry(
            {Grown(stored_size[0], shift_ij[0]), Grown(stored_size[1], shift_ij[1]), 30}, {2, 2, 5},
            {-180, -180, 0})),
        stored_(stored_geometry_) {
    const at::Tensor chest = Chest(stored_geometry_, true);
    std::size_t at = 0;
    for (std::uint32_t k = 0; k < 30; ++k) {
      for (std::uint32_t j = 0; j < stored_size[1]; ++j) {
        for (std::uint32_t i = 0; i < stored_size[0]; ++i, ++at) {
          const auto hu = static_cast<std::int16_t>(testing::Floats(chest)[at]);
          stored_.At(i, j, k) = is_padding(2.0 * i - 180, 2.0 * j - 180) ? padding : hu;
        }
      }
    }
    slices_ = stored_.Slices();
    for (std::size_t k = 0; k < slices_.size(); ++k) {
      const auto along = static_cast<double>(k);
      slices_[k].shift = Shift{{shift_ij[0] * along, shift_ij[1] * along}, stored_size, -1024};
    }
    for (const std::uint32_t k : {12u, 13u}) {
      slices_[k] = StoredSlice();
      slices_[k].between = Between{11, 14, (k - 11.0) / 3};
    }
  }

  // From the stored values; those of the volume must give the same.
  EnclosedAir Air() const {
    const auto hu = StoredToFloat(slices_, geometry_.size_ijk(), {2, {}});
    const auto areas = StoredAreas(slices_, geometry_.size_ijk());
    EXPECT_TRUE(hu.ok() && areas.ok()) << hu.status() << areas.status();
    if (!hu.ok() || !areas.ok()) return {};
    const auto expected = FindEnclosedAir(*hu, geometry_, *areas, {2, {}});
    const auto found = FindEnclosedAir(slices_, geometry_, {2, {}});
    EXPECT_TRUE(expected.ok() && found.ok()) << expected.status() << found.status();
    if (!expected.ok() || !found.ok()) return {};
    EXPECT_GT(found->voxels, 0u);
    EXPECT_EQ(found->voxels, expected->voxels);
    EXPECT_EQ(found->first_k, expected->first_k);
    EXPECT_EQ(found->last_k, expected->last_k);
    EXPECT_EQ(found->touches_in_plane_border, expected->touches_in_plane_border);
    return *found;
  }

 private:
  static std::uint32_t Grown(std::uint32_t size, double shift) {
    return size + static_cast<std::uint32_t>(std::ceil(29 * shift));
  }
  volume::Geometry stored_geometry_;
  volume::Geometry geometry_;
  testing::StoredVolume stored_;
  std::vector<StoredSlice> slices_;
};

TEST(EnclosedAirTest, StoredValuesOfACorrectedVolumeGiveTheSameToo) {
  EXPECT_FALSE(CorrectedChest({180, 160}, {0, 0.6}).Air().touches_in_plane_border);
}

// The grid goes on where the image ends: beside it lies air that nobody saw.
TEST(EnclosedAirTest, ALungThatTheStoredImageCutsIsCutOnALargerGridToo) {
  EXPECT_TRUE(CorrectedChest({110, 180}, {0, 0}).Air().touches_in_plane_border);
  EXPECT_TRUE(CorrectedChest({110, 180}, {0.6, 0}).Air().touches_in_plane_border);
  EXPECT_TRUE(CorrectedChest({110, 180}, {0, 0.6}).Air().touches_in_plane_border);
}

constexpr std::array<double, 2> kShifts[] = {{0, 0}, {0.6, 0}, {0, 0.6}, {0.3, 0.7}};

TEST(EnclosedAirTest, PaddingOfAShiftedSliceBeginsAtItsOwnCorners) {
  const auto touches = [](std::array<double, 2> shift, double from_mm) {
    return CorrectedChest({180, 180}, shift, -2000, [=](double x, double) { return x > from_mm; })
        .Air()
        .touches_in_plane_border;
  };
  for (const std::array<double, 2> shift : kShifts) {
    EXPECT_TRUE(touches(shift, 90)) << "through a lung, " << shift[0] << " " << shift[1];
    EXPECT_FALSE(touches(shift, 165)) << "beside the body, " << shift[0] << " " << shift[1];
  }
}

TEST(EnclosedAirTest, TheCircleOfAShiftedSliceIsItsOwn) {
  // 140 pixels of 2 mm: a circle around (-41, -41), through the lung on the right of the image.
  for (const std::array<double, 2> shift : kShifts) {
    const CorrectedChest chest({140, 140}, shift, -1000,
                               [](double x, double y) { return std::hypot(x + 41, y + 41) > 140; });
    EXPECT_TRUE(chest.Air().touches_in_plane_border) << shift[0] << " " << shift[1];
  }
}

TEST(EnclosedAirTest, RefusesAnotherShape) {
  const auto geometry = testing::AxialGeometry({4, 5, 6}, {1, 1, 1});
  EXPECT_EQ(base::ReasonOf(FindEnclosedAir(at::full({4, 5, 6}, 0, at::kFloat), geometry,
                                           WholeAreas(geometry.size_ijk()), {})
                               .status()),
            "RESAMPLE_SHAPE");
  EXPECT_EQ(
      base::ReasonOf(
          FindEnclosedAir(at::full({6, 5, 4}, 0, at::kFloat), geometry, WholeAreas({4, 5, 5}), {}).status()),
      "RESAMPLE_SHAPE");
}

}  // namespace
}  // namespace tomoserve::compute
