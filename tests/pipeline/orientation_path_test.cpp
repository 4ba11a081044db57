// The whole path keeps left and right apart, in every orientation, with every axis order of the network.
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

// Names of the spatial dimensions of the network's tensors.
struct Order {
  v1::TensorAxes axes;
  const char* names;
};
constexpr std::array<Order, 6> kOrders{{{v1::TENSOR_AXES_XYZ, "xyz"},
                                        {v1::TENSOR_AXES_ZYX, "zyx"},
                                        {v1::TENSOR_AXES_ZXY, "zxy"},
                                        {v1::TENSOR_AXES_YZX, "yzx"},
                                        {v1::TENSOR_AXES_YXZ, "yxz"},
                                        {v1::TENSOR_AXES_XZY, "xzy"}}};

// Moves what the network sees by so many voxels along x, y and z, where it has them.
at::Tensor Moved(const at::Tensor& input, const char* names, const std::array<std::int64_t, 3>& by_xyz) {
  at::Tensor moved = input;
  std::int64_t dimension = 2;
  for (const char name : std::string(names)) {
    if (name == 'z' && input.dim() == 4) continue;
    moved = moved.roll({by_xyz[static_cast<std::size_t>(name - 'x')]}, {dimension++});
  }
  return moved;
}

TEST_P(OrientationPathTest, NetworkAxesRunWhereTheRecipeSays) {
  for (const Order& order : kOrders) {
    ForEveryOrientation([&order, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("RAS");
      testing::SetSpacing(recipe, {2, 2, 2}, v1::INTERPOLATION_LINEAR);
      testing::SetAffine(recipe, 1e-3, 0);
      recipe.mutable_network()->set_axes(order.axes);
      for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 40);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1000, stored);
      // 4 mm right, 2 mm front, 6 mm head.
      const auto outcome = Run(recipe, geometry, stored.Slices(), [&order](const at::Tensor& input) {
        return absl::StatusOr<at::Tensor>(Moved(input, order.names, {2, 1, 3}));
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
  for (const Order& order : kOrders) {
    ForEveryOrientation([&order, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("LPS");
      recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_SLICES);
      recipe.mutable_windows()->clear_size();
      recipe.mutable_windows()->set_xy_multiple_of(32);
      recipe.mutable_network()->set_spatial_dims(2);
      recipe.mutable_network()->set_axes(order.axes);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1, stored);
      // 2 voxels towards the left, 1 towards the back.
      const auto outcome = Run(recipe, geometry, stored.Slices(), [&order](const at::Tensor& input) {
        EXPECT_EQ(input.size(2) % 32, 0);
        EXPECT_EQ(input.size(3) % 32, 0);
        return absl::StatusOr<at::Tensor>(Moved(input, order.names, {2, 1, 0}));
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

TEST_P(OrientationPathTest, WindowsWithinSlicesToo) {
  for (const Order& order : kOrders) {
    ForEveryOrientation([&order, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("LPS");
      recipe.mutable_windows()->set_size(2, 1);
      recipe.mutable_network()->set_spatial_dims(2);
      recipe.mutable_network()->set_axes(order.axes);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1, stored);
      const auto outcome = Run(recipe, geometry, stored.Slices(), [](const at::Tensor& input) {
        EXPECT_EQ(input.sizes(), (at::IntArrayRef{1, 1, 16, 16}));
        return testing::Identity(input);
      });
      ASSERT_TRUE(outcome.ok()) << outcome.status();
      ExpectOneSpotAt(*outcome, geometry, kSpot, 0.7);
    });
  }
}

// The network sees the whole volume, in its own order of axes.
TEST_P(OrientationPathTest, WholeVolumesToo) {
  for (const Order& order : kOrders) {
    ForEveryOrientation([&order, this](const volume::Geometry& geometry) {
      v1::Recipe recipe = testing::SpotRecipe();
      recipe.mutable_preparation()->set_orientation("RAS");
      testing::SetSpacing(recipe, {2, 2.5, 4}, v1::INTERPOLATION_LINEAR);
      testing::SetAffine(recipe, 1e-3, 0);
      recipe.mutable_windows()->Clear();
      recipe.mutable_windows()->set_layout(v1::WINDOW_LAYOUT_MONAI);
      for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->add_size(0);
      recipe.mutable_network()->set_axes(order.axes);
      StoredVolume stored(geometry);
      testing::PaintSphere(geometry, kSpot, kRadiusMm, 1000, stored);
      int calls = 0;
      const auto outcome = Run(recipe, geometry, stored.Slices(), [&](const at::Tensor& input) {
        ++calls;
        // 60, 50 and 40 mm, whatever part of the last voxel fits.
        for (std::int64_t dimension = 0; dimension < 3; ++dimension) {
          const auto axis = static_cast<std::size_t>(order.names[dimension] - 'x');
          EXPECT_LE(std::abs(input.size(dimension + 2) - std::array<std::int64_t, 3>{31, 21, 11}[axis]), 1);
        }
        return absl::StatusOr<at::Tensor>(Moved(input, order.names, {2, 1, 1}));
      });
      ASSERT_TRUE(outcome.ok()) << outcome.status();
      EXPECT_EQ(calls, 1);
      ExpectOneSpotAt(*outcome, geometry, {kSpot[0] - 4, kSpot[1] - 2.5, kSpot[2] + 4}, 0.9);
    });
  }
}

TS_INSTANTIATE_PLACES(OrientationPathTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
