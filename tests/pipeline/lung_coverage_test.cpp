// Whether enclosed air tells whole lungs from cut ones: through the neck, a lung, or its side. It is found on
// the host in every placement.
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "compute/fixtures.h"
#include "tomoserve/base/status.h"
#include "tomoserve/compute/enclosed_air.h"
#include "tomoserve/phantom/phantom.h"

namespace tomoserve::pipeline {
namespace {

using compute::EnclosedAir;
using testing::Floats;

struct Volume {
  at::Tensor hu;
  volume::Geometry geometry;
};

Volume ChestPhantom(std::uint32_t slices, double slice_mm, double noise_hu = 12) {
  phantom::Options options;
  options.size_ijk = {180, 180, slices};
  options.spacing_mm = {2, 2, slice_mm};
  options.nodules = 0;
  options.noise_hu = noise_hu;
  const phantom::Phantom chest = phantom::MakePhantom(options).value();
  at::Tensor hu = at::full({slices, 180, 180}, 0, at::kFloat);
  std::copy(chest.values.begin(), chest.values.end(), Floats(hu).begin());
  return {hu, chest.geometry};
}

// The box [begin, begin + size) in i, j, k of a volume.
Volume Cut(const Volume& whole, std::array<std::uint32_t, 3> begin, std::array<std::uint32_t, 3> size) {
  at::Tensor hu = whole.hu;
  for (std::size_t axis = 0; axis < 3; ++axis)
    hu = hu.narrow(2 - static_cast<int>(axis), begin[axis], size[axis]);
  const volume::LpsPoint origin = whole.geometry.ToLps(
      {{static_cast<double>(begin[0]), static_cast<double>(begin[1]), static_cast<double>(begin[2])}});
  return {hu.contiguous(),
          volume::Geometry::Create(size, whole.geometry.spacing_mm(), origin, whole.geometry.directions())
              .value()};
}

Volume Slices(const Volume& whole, std::uint32_t first, std::uint32_t count) {
  const auto& size = whole.geometry.size_ijk();
  return Cut(whole, {0, 0, first}, {size[0], size[1], count});
}

Volume Columns(const Volume& whole, std::uint32_t first, std::uint32_t count) {
  const auto& size = whole.geometry.size_ijk();
  return Cut(whole, {first, 0, 0}, {count, size[1], size[2]});
}

// The same volume with its slices in the other order.
Volume HeadFirst(const Volume& whole) {
  auto directions = whole.geometry.directions();
  for (double& component : directions[2]) component = -component;
  const volume::LpsPoint origin = whole.geometry.ToLps({{0, 0, whole.geometry.size_ijk()[2] - 1.0}});
  return {whole.hu.flip(0).contiguous(),
          volume::Geometry::Create(whole.geometry.size_ijk(), whole.geometry.spacing_mm(), origin, directions)
              .value()};
}

EnclosedAir AirOf(const Volume& volume) {
  auto air = compute::FindEnclosedAir(volume.hu, volume.geometry,
                                      compute::WholeAreas(volume.geometry.size_ijk()), {2, {}});
  EXPECT_TRUE(air.ok()) << air.status();
  return air.value_or(EnclosedAir{});
}

// As the coverage rule judges it.
bool IsComplete(const Volume& volume) {
  const EnclosedAir air = AirOf(volume);
  const double spacing = volume.geometry.spacing_mm()[2];
  return air.volume_ml >= 1000 && !air.touches_in_plane_border && air.first_k * spacing >= 5 - 1e-6 &&
         (volume.geometry.size_ijk()[2] - 1 - air.last_k) * spacing >= 5 - 1e-6;
}

// Paints an ellipse of the body's middle (mm, LPS) over slices [first, last].
void PaintTube(Volume& volume, double x, double y, double radius, std::uint32_t first, std::uint32_t last,
               float value) {
  const auto [ni, nj, nk] = volume.geometry.size_ijk();
  for (std::uint32_t k = first; k <= std::min(last, nk - 1); ++k) {
    for (std::uint32_t j = 0; j < nj; ++j) {
      for (std::uint32_t i = 0; i < ni; ++i) {
        const auto p = volume.geometry.ToLps({{double(i), double(j), double(k)}}).mm;
        if (std::hypot(p[0] - x, p[1] - y) < radius)
          Floats(volume.hu)[(std::size_t{k} * nj + j) * ni + i] = value;
      }
    }
  }
}

TEST(LungCoverageTest, TracheaInTheTopSliceIsNoLung) {
  const Volume chest = ChestPhantom(140, 2.1);
  const EnclosedAir air = AirOf(chest);
  // The lungs are 230 mm high around the middle of 294 mm.
  EXPECT_NEAR(air.first_k * 2.1, 32, 5);
  EXPECT_NEAR((139 - air.last_k) * 2.1, 32, 5);
  EXPECT_FALSE(air.touches_in_plane_border);
  EXPECT_TRUE(IsComplete(chest));

  const EnclosedAir flipped = AirOf(HeadFirst(chest));
  EXPECT_EQ(flipped.first_k, 139 - air.last_k);
  EXPECT_EQ(flipped.last_k, 139 - air.first_k);
  EXPECT_EQ(flipped.voxels, air.voxels);
}

TEST(LungCoverageTest, EveryCutThroughTheLungsIsSeen) {
  for (const double slice_mm : {1.0, 2.1, 5.0}) {
    const auto slices = static_cast<std::uint32_t>(294 / slice_mm);
    const Volume chest = ChestPhantom(slices, slice_mm);
    const EnclosedAir whole = AirOf(chest);
    ASSERT_TRUE(IsComplete(chest)) << slice_mm;
    const std::uint32_t step = slice_mm < 2 ? 3 : 1;
    // Through the apices or nearer than 5 mm to them on each slice, further down on every seventh.
    for (std::uint32_t top = whole.last_k + static_cast<std::uint32_t>(4.9 / slice_mm); top > slices / 3;
         top -= top + 12 > whole.last_k ? 1 : 7 * step) {
      const Volume cut = Slices(chest, 0, top + 1);
      EXPECT_FALSE(IsComplete(cut)) << slice_mm << " mm, last slice " << top;
      if (top <= whole.last_k) {
        EXPECT_EQ(AirOf(cut).last_k, top);
      }
      EXPECT_FALSE(IsComplete(HeadFirst(cut))) << slice_mm << " mm, flipped, last slice " << top;
    }
    for (std::uint32_t bottom = whole.first_k; bottom < 2 * slices / 3; bottom += 7 * step) {
      EXPECT_FALSE(IsComplete(Slices(chest, bottom, slices - bottom))) << slice_mm << " mm, from " << bottom;
    }
    const auto margin = static_cast<std::uint32_t>(std::ceil(5 / slice_mm));
    EXPECT_TRUE(IsComplete(Slices(chest, 0, whole.last_k + margin + 1))) << slice_mm;
  }
}

TEST(LungCoverageTest, CutApexWithoutATracheaBesideItIsNoNeck) {
  Volume chest = ChestPhantom(294, 1);
  PaintTube(chest, 0, 22, 12, 0, 293, 35);     // no airway at all
  PaintTube(chest, -68, 0, 90, 240, 293, 35);  // the right apex lies lower
  const EnclosedAir whole = AirOf(chest);
  ASSERT_GT(whole.last_k, 250u);
  for (std::uint32_t top = whole.last_k; top > 200; --top) {
    EXPECT_EQ(AirOf(Slices(chest, 0, top + 1)).last_k, top);
  }
}

TEST(LungCoverageTest, UpperAirwaysAboveTheNeckAreNoLung) {
  Volume chest = ChestPhantom(196, 2.1);
  const EnclosedAir before = AirOf(chest);
  // A pharynx of 16 cm2 over the last 40 mm.
  PaintTube(chest, 0, 18, 23, 177, 195, -1000);
  const EnclosedAir air = AirOf(chest);
  EXPECT_GT(air.volume_ml, before.volume_ml + 30);
  EXPECT_EQ(air.last_k, before.last_k);
  // More than an airway holds: it may be a lung.
  PaintTube(chest, 0, -10, 60, 177, 195, -1000);
  EXPECT_EQ(AirOf(chest).last_k, 195u);
}

TEST(LungCoverageTest, ScanAcrossTheHeadAxisHasNoNeck) {
  const Volume chest = ChestPhantom(140, 2.1);
  auto directions = chest.geometry.directions();
  std::swap(directions[1], directions[2]);
  const Volume turned{chest.hu,
                      volume::Geometry::Create(chest.geometry.size_ijk(), chest.geometry.spacing_mm(),
                                               chest.geometry.origin_lps(), directions)
                          .value()};
  EXPECT_EQ(AirOf(turned).last_k, 139u);
}

TEST(LungCoverageTest, LungCutByTheSideOfTheImageIsSeen) {
  // The left lung ends at x = 122 mm, the right one at -122; a column is 2 mm, the middle is column 90.
  const Volume chest = ChestPhantom(98, 3);
  for (const std::uint32_t columns : {149u, 145u, 135u, 120u, 105u, 95u, 88u}) {
    const EnclosedAir left_cut = AirOf(Columns(chest, 0, columns));
    EXPECT_TRUE(left_cut.touches_in_plane_border) << columns;
    EXPECT_GT(left_cut.volume_ml, 1000) << columns;
    EXPECT_TRUE(AirOf(Columns(chest, 180 - columns, columns)).touches_in_plane_border) << columns;
  }
  // In front: the lungs begin at y = -78.
  const EnclosedAir front = AirOf(Cut(chest, {0, 56, 0}, {180, 124, 98}));
  EXPECT_TRUE(front.touches_in_plane_border || front.voxels == 0);
}

TEST(LungCoverageTest, SkinCutBesideTwoWholeLungsIsNoLungCut) {
  const Volume chest = ChestPhantom(98, 3);
  for (const std::uint32_t margin : {0u, 5u, 10u, 20u, 26u}) {  // the skin lies at column 5
    const EnclosedAir air = AirOf(Columns(chest, margin, 180 - 2 * margin));
    EXPECT_FALSE(air.touches_in_plane_border) << margin;
    EXPECT_EQ(air.voxels, AirOf(chest).voxels) << margin;
  }
}

// Sets everything outside a circle around column `centre` (row 90) to `value`.
Volume InCircle(const Volume& whole, double centre_i, double radius, float value) {
  Volume out{whole.hu.clone(), whole.geometry};
  const auto [ni, nj, nk] = whole.geometry.size_ijk();
  for (std::uint32_t k = 0; k < nk; ++k) {
    for (std::uint32_t j = 0; j < nj; ++j) {
      for (std::uint32_t i = 0; i < ni; ++i) {
        if (std::hypot(i - centre_i, j - 89.5) > radius)
          Floats(out.hu)[(std::size_t{k} * nj + j) * ni + i] = value;
      }
    }
  }
  return out;
}

TEST(LungCoverageTest, LungCutByACircleOfReconstructionIsSeen) {
  const Volume chest = ChestPhantom(98, 3);
  for (const float padding : {-3024.0f, -2000.0f}) {
    EXPECT_FALSE(AirOf(InCircle(chest, 89.5, 90, padding)).touches_in_plane_border) << padding;
    for (const double centre : {50.0, 62.0}) {
      const EnclosedAir cut = AirOf(InCircle(chest, centre, 80, padding));
      EXPECT_TRUE(cut.touches_in_plane_border) << padding << " centre " << centre;
      EXPECT_GT(cut.volume_ml, 1000);
    }
  }
  // Padding with a value of air, where the circle is the one inscribed in the image.
  for (const float padding : {-1024.0f, -1000.0f}) {
    for (const double noise_hu : {0.0, 12.0}) {
      const Volume noisy = ChestPhantom(98, 3, noise_hu);
      EXPECT_FALSE(AirOf(InCircle(noisy, 89.5, 90, padding)).touches_in_plane_border) << padding;
      const Volume narrow = Cut(noisy, {0, 20, 0}, {140, 140, 98});
      Volume cut{narrow.hu.clone(), narrow.geometry};
      for (std::uint32_t k = 0; k < 98; ++k) {
        for (std::uint32_t j = 0; j < 140; ++j) {
          for (std::uint32_t i = 0; i < 140; ++i) {
            if (std::hypot(i - 69.5, j - 69.5) > 70)
              Floats(cut.hu)[(std::size_t{k} * 140 + j) * 140 + i] = padding;
          }
        }
      }
      EXPECT_TRUE(AirOf(cut).touches_in_plane_border) << padding << " noise " << noise_hu;
      EXPECT_GT(AirOf(cut).volume_ml, 1000);
    }
  }
}

TEST(LungCoverageTest, RealChestCtIsCompleteAndItsCutsAreNot) {
  TS_SKIP_WITHOUT(testing::ChestCtFolder());
  const testing::ChestCt ct = testing::ReadChestCt();
  const Volume chest{compute::StoredToFloat(ct.Slices(), ct.geometry.size_ijk(), {2, {}}).value(),
                     ct.geometry};
  const EnclosedAir air = AirOf(chest);
  EXPECT_TRUE(IsComplete(chest));
  EXPECT_FALSE(air.touches_in_plane_border);
  for (std::uint32_t top = air.last_k; top > 20; --top) {
    EXPECT_FALSE(IsComplete(Slices(chest, 0, top + 1))) << top;
  }
  for (std::uint32_t bottom = air.first_k; bottom < 45; ++bottom) {
    EXPECT_FALSE(IsComplete(Slices(chest, bottom, 64 - bottom))) << bottom;
  }
  for (std::uint32_t columns = 120; columns < 400; columns += 20) {
    EXPECT_FALSE(IsComplete(Columns(chest, 0, columns))) << columns;
    EXPECT_FALSE(IsComplete(Columns(chest, columns, 512 - columns))) << columns;
  }
  // One lung is more than a litre, whole, and cut off from the other.
  for (const std::uint32_t columns : {320u, 340u, 360u}) {
    const EnclosedAir one = AirOf(Columns(chest, 0, columns));
    EXPECT_TRUE(one.touches_in_plane_border) << columns;
    EXPECT_GT(one.volume_ml, 1000) << columns;
  }
  // Skin may be missing up to the ribs.
  for (std::uint32_t columns = 10; columns <= 110; columns += 10) {
    if (columns == 90) continue;  // the left lung is cut, the right one not yet
    const bool cut = columns > 90;
    EXPECT_EQ(IsComplete(Columns(chest, columns, 512 - columns)), !cut) << columns;
    EXPECT_EQ(IsComplete(Columns(chest, 0, 512 - columns)), !cut) << columns;
  }
}

}  // namespace
}  // namespace tomoserve::pipeline
