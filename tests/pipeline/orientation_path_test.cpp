// The whole path keeps left and right apart, in every orientation, with either axis order of the network.
#include <ATen/ops/roll.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::Outcome;
using testing::StoredVolume;

constexpr std::array<double, 3> kSpot{14, -9, 6};  // towards the left, front, head
constexpr double kRadiusMm = 7;

// Patient space between -30 and 30, -25 and 25, -20 and 20 mm, sampled along the given axes.
volume::Geometry PatientGrid(const std::array<std::size_t, 3>& axes, int signs) {
  constexpr std::array<double, 3> kHalf{30, 25, 20};
  constexpr std::array<double, 3> kSpacing{1.25, 1.5, 2.5};  // along i, j, k
  std::array<volume::LpsVector, 3> directions{};
  std::array<std::uint32_t, 3> size{};
  volume::LpsPoint origin;
  for (std::size_t a = 0; a < 3; ++a) {
    const double sign = (signs >> a & 1) != 0 ? -1 : 1;
    directions[a][axes[a]] = sign;
    size[a] = static_cast<std::uint32_t>(2 * kHalf[axes[a]] / kSpacing[a]) + 1;
    origin.mm[axes[a]] = -sign * kHalf[axes[a]];
  }
  return volume::Geometry::Create(size, kSpacing, origin, directions).value();
}

template <typename Check>
void ForEveryOrientation(Check check) {
  std::array<std::size_t, 3> axes{0, 1, 2};
  do {
    for (int signs = 0; signs < 8; ++signs) check(PatientGrid(axes, signs));
  } while (std::next_permutation(axes.begin(), axes.end()));
}

void ExpectOneSpotAt(const Outcome& outcome, const volume::Geometry& geometry, std::array<double, 3> centre,
                     double tolerance_mm) {
  ASSERT_EQ(outcome.result.findings.size(), 1u);
  const v1::Finding& finding = outcome.result.findings[0];
  EXPECT_NEAR(finding.centre_lps().x_mm(), centre[0], tolerance_mm);
  EXPECT_NEAR(finding.centre_lps().y_mm(), centre[1], tolerance_mm);
  EXPECT_NEAR(finding.centre_lps().z_mm(), centre[2], tolerance_mm);
  EXPECT_NEAR(finding.volume_ml().value(), 4.0 / 3 * 3.14159 * std::pow(kRadiusMm, 3) / 1000, 0.4);
  // Label map, finding and geometry tell the same.
  const auto [ni, nj, nk] = geometry.size_ijk();
  std::uint64_t voxels = 0;
  for (std::size_t v = 0; v < outcome.labels.size(); ++v) {
    if (outcome.labels[v] == 0) continue;
    ++voxels;
    const volume::LpsPoint p = geometry.ToLps(
        {{static_cast<double>(v % ni), static_cast<double>(v / ni % nj), static_cast<double>(v / ni / nj)}});
    EXPECT_LT(std::hypot(p.mm[0] - centre[0], p.mm[1] - centre[1], p.mm[2] - centre[2]), kRadiusMm + 2.5);
  }
  EXPECT_EQ(voxels, finding.voxels());
}

class OrientationPathTest : public testing::PlacedRunTest {};

TEST_P(OrientationPathTest, NetworkAxesRunWhereTheRecipeSays) {
  for (const bool xyz : {true, false}) {
    ForEveryOrientation([xyz, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("RAS");
      testing::SetSpacing(recipe, {2, 2, 2}, v1::INTERPOLATION_LINEAR);
      testing::SetAffine(recipe, 1e-3, 0);
      recipe.mutable_network()->set_axes(xyz ? v1::TENSOR_AXES_XYZ : v1::TENSOR_AXES_ZYX);
      for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 40);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1000, stored);
      // Moves what it sees by 2 voxels along x, 1 along y, 3 along z: 4 mm right, 2 mm front, 6 mm head.
      const auto outcome = Run(recipe, geometry, stored.Slices(), [xyz](const at::Tensor& input) {
        return absl::StatusOr<at::Tensor>(xyz ? input.roll({2, 1, 3}, {2, 3, 4})
                                              : input.roll({3, 1, 2}, {2, 3, 4}));
      });
      ASSERT_TRUE(outcome.ok()) << outcome.status();
      ExpectOneSpotAt(*outcome, geometry, {kSpot[0] - 4, kSpot[1] - 2, kSpot[2] + 6}, 0.7);
    });
  }
}

TEST_P(OrientationPathTest, WithoutResamplingTheSpotStaysExactlyWhereItIs) {
  ForEveryOrientation([this](const volume::Geometry& geometry) {
    v1::Recipe recipe = testing::SpotRecipe();
    recipe.mutable_preparation()->set_orientation("LIA");
    StoredVolume stored(geometry);
    testing::PaintSphere(geometry, kSpot, kRadiusMm, 1, stored);
    const auto outcome = Run(recipe, geometry, stored.Slices(), testing::Identity);
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    std::size_t v = 0;
    for (std::uint32_t k = 0; k < geometry.size_ijk()[2]; ++k) {
      for (std::uint32_t j = 0; j < geometry.size_ijk()[1]; ++j) {
        for (std::uint32_t i = 0; i < geometry.size_ijk()[0]; ++i) {
          ASSERT_EQ(outcome->labels[v++], stored.At(i, j, k));
        }
      }
    }
  });
}

TEST_P(OrientationPathTest, SlicesOfTwoDimensionalNetworksToo) {
  for (const bool xyz : {true, false}) {
    ForEveryOrientation([xyz, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("LPS");
      recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
      recipe.mutable_windows()->clear_size();
      recipe.mutable_windows()->set_xy_multiple_of(32);
      recipe.mutable_network()->set_spatial_dims(2);
      recipe.mutable_network()->set_axes(xyz ? v1::TENSOR_AXES_XYZ : v1::TENSOR_AXES_ZYX);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1, stored);
      // 2 voxels towards the left, 1 towards the back.
      const auto outcome = Run(recipe, geometry, stored.Slices(), [xyz](const at::Tensor& input) {
        EXPECT_EQ(input.size(2) % 32, 0);
        EXPECT_EQ(input.size(3) % 32, 0);
        return absl::StatusOr<at::Tensor>(xyz ? input.roll({2, 1}, {2, 3}) : input.roll({1, 2}, {2, 3}));
      });
      ASSERT_TRUE(outcome.ok()) << outcome.status();
      // Spacing of the patient's axes in this grid.
      std::array<double, 2> spacing{};
      for (std::size_t a = 0; a < 3; ++a) {
        for (std::size_t c = 0; c < 2; ++c) {
          if (geometry.directions()[a][c] != 0) spacing[c] = geometry.spacing_mm()[a];
        }
      }
      ExpectOneSpotAt(*outcome, geometry, {kSpot[0] + 2 * spacing[0], kSpot[1] + spacing[1], kSpot[2]}, 0.7);
    });
  }
}

TS_INSTANTIATE_PLACES(OrientationPathTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
