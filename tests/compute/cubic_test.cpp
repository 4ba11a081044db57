// Splines: what SciPy and scikit-image give (1.17.1, 0.26.0), and the placements against each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "compute/places.h"
#include "random.h"
#include "tomoserve/compute/resample.h"

namespace tomoserve::compute {
namespace {

using testing::MakeTensor;
using testing::Values;

class CubicTest : public testing::PlacedTest {
 protected:
  std::vector<float> Cubic(const at::Tensor& source, const GridMap& map) {
    const auto out = Resample(Put(source), map, v1::INTERPOLATION_CUBIC, {2, {}}, placement());
    EXPECT_TRUE(out.ok()) << out.status();
    return Values(*out);
  }
};

GridMap EdgeMap(std::array<std::int64_t, 3> in, std::array<std::int64_t, 3> out, int low_axis = -1,
                bool flipped = false) {
  GridMap map;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    map[axis] = MakeEdgeTable(in[axis], out[axis], static_cast<int>(axis) == low_axis, flipped,
                              /*flip_output=*/false);
  }
  return map;
}

// Value v * 37 % 101 / 10 at the v-th of 4 x 3 x 5 voxels.
at::Tensor Pattern() {
  std::vector<float> values;
  for (int v = 0; v < 60; ++v) values.push_back(static_cast<float>(v * 37 % 101) / 10);
  return MakeTensor({4, 3, 5}, values);
}

at::Tensor Noise(std::array<std::int64_t, 3> size, std::uint64_t seed) {
  testing::Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(size[0] * size[1] * size[2]));
  for (float& value : values) value = static_cast<float>(random.Below(20001)) / 1000 - 10;
  return MakeTensor({size[0], size[1], size[2]}, values);
}

void ExpectNear(const std::vector<float>& values, const std::vector<float>& expected, float tolerance) {
  ASSERT_EQ(values.size(), expected.size());
  for (std::size_t v = 0; v < values.size(); ++v) EXPECT_NEAR(values[v], expected[v], tolerance) << v;
}

TEST_P(CubicTest, EqualsResizeOfOrderThree) {
  // skimage.transform.resize(x, (5, 2, 7), 3, mode="edge", anti_aliasing=False)
  ExpectNear(
      Cubic(Pattern(), EdgeMap({4, 3, 5}, {5, 2, 7})),
      {1.867587f, 1.936872f, 4.644331f, 7.522725f, 4.039475f,  2.638547f,  4.274239f, 8.47706f,  3.201698f,
       0.0f,      4.074217f, 8.839495f, 6.062726f, 0.6243197f, 2.881535f,  6.545135f, 6.678463f, 2.269236f,
       3.806452f, 7.278922f, 8.893025f, 2.634709f, 3.699631f,  5.80766f,   6.719484f, 4.285232f, 4.2304f,
       6.116945f, 8.142858f, 6.919681f, 5.286283f, 4.253756f,  3.929469f,  5.380064f, 7.050541f, 4.457601f,
       3.298705f, 3.527907f, 5.636325f, 5.992153f, 4.889018f,  3.927455f,  9.184551f, 5.653872f, 4.2978f,
       6.238275f, 3.987229f, 3.511388f, 5.20278f,  6.568894f,  3.009893f,  1.220561f, 4.553165f, 7.703534f,
       5.545572f, 1.738324f, 3.827465f, 7.785436f, 6.941456f,  0.9847856f, 3.655675f, 8.197332f, 9.813601f,
       1.161986f, 3.677102f, 7.001347f, 7.198431f, 3.156005f,  3.71013f,   7.231494f},
      2e-5f);
}

TEST_P(CubicTest, AnAxisOfLowResolutionIsReadByNearest) {
  // Planes one by one, then map_coordinates of order 0: planes 0, 1, 1, 2, 3, 3.
  const std::vector<float> out = Cubic(Pattern(), EdgeMap({4, 3, 5}, {6, 2, 7}, /*low_axis=*/0));
  const std::vector<float> plane{4.321767f, 7.718517f, 6.841392f, 1.483045f, 3.780139f, 7.941196f, 9.563068f,
                                 1.6727f,   3.726249f, 6.661943f, 7.097115f, 3.600689f, 3.948928f, 6.914001f};
  ASSERT_EQ(out.size(), 6 * plane.size());
  const auto of_slice = [&](std::ptrdiff_t k) {
    return std::vector<float>(out.begin() + k * 14, out.begin() + (k + 1) * 14);
  };
  ExpectNear(of_slice(1), plane, 2e-5f);
  EXPECT_EQ(of_slice(1), of_slice(2));
  EXPECT_EQ(of_slice(4), of_slice(5));
  EXPECT_NE(of_slice(3), of_slice(4));
}

TEST_P(CubicTest, IsClippedToTheRangeOfTheVolumeOrOfEachPlane) {
  // A step overshoots; the first plane has a larger range than the second one.
  const at::Tensor step = MakeTensor({2, 1, 8}, {-9, 9, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1});
  const std::vector<float> together = Cubic(step, EdgeMap({2, 1, 8}, {2, 1, 20}));
  const std::vector<float> apart = Cubic(step, EdgeMap({2, 1, 8}, {2, 1, 20}, /*low_axis=*/0));
  EXPECT_GT(*std::max_element(together.begin() + 20, together.end()), 1.01f)
      << "only the volume's range counts";
  EXPECT_EQ(*std::max_element(apart.begin() + 20, apart.end()), 1.0f);
  EXPECT_EQ(*std::min_element(apart.begin() + 20, apart.end()), 0.0f);
  EXPECT_EQ(*std::min_element(together.begin(), together.end()), -9.0f);
}

TEST_P(CubicTest, IsClippedToTheRangeOfVoxelsThatAreNotPickedToo) {
  // Of three rows the one in the middle is picked; the first one has the larger range.
  const std::vector<float> rows{-9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
  const auto highest = [&](const std::vector<float>& values, const GridMap& map) {
    const std::vector<float> out = Cubic(MakeTensor({map[0].in_size, map[1].in_size, 8}, values), map);
    EXPECT_EQ(out.size(), 20u);
    return *std::max_element(out.begin(), out.end());
  };
  EXPECT_GT(highest(rows, EdgeMap({3, 1, 8}, {1, 1, 20})), 1.01f);
  // The same of three planes, each with its own range.
  std::vector<float> middle(72, 0);
  std::copy(rows.begin(), rows.end(), middle.begin() + 24);
  EXPECT_GT(highest(middle, EdgeMap({3, 3, 8}, {1, 1, 20}, /*low_axis=*/0)), 1.01f);
  std::fill_n(middle.begin() + 24, 8, 0.0f);
  std::copy(rows.begin(), rows.end(), middle.begin());
  EXPECT_EQ(highest(middle, EdgeMap({3, 3, 8}, {1, 1, 20}, /*low_axis=*/0)), 1.0f)
      << "a plane that is not read has no say";
}

TEST_P(CubicTest, AFlippedAxisGivesTheFlippedResult) {
  const at::Tensor source = Noise({5, 6, 7}, 3);
  const std::vector<float> plain = Cubic(source, EdgeMap({5, 6, 7}, {9, 4, 10}));
  const std::vector<float> flipped =
      Cubic(source.flip({0, 1, 2}).contiguous(), EdgeMap({5, 6, 7}, {9, 4, 10}, -1, /*flipped=*/true));
  ExpectNear(flipped, plain, 2e-5f);
}

TEST_P(CubicTest, WhereNothingChangesTheVolumeItselfComesBack) {
  const at::Tensor source = Put(Noise({3, 4, 5}, 5));
  const auto out = Resample(source, EdgeMap({3, 4, 5}, {3, 4, 5}), v1::INTERPOLATION_CUBIC, {}, placement());
  ASSERT_TRUE(out.ok());
  EXPECT_TRUE(out->is_same(source));
}

TEST_P(CubicTest, PlacementsAgree) {
  struct Size {
    std::array<std::int64_t, 3> in, out;
    int low_axis;
  };
  // Longer than one product's outputs and than the spline's reach; one voxel; each axis of low resolution.
  for (const Size& size : {Size{{9, 130, 200}, {14, 61, 333}, -1}, Size{{1, 2, 300}, {3, 1, 150}, -1},
                           Size{{10, 40, 35}, {7, 33, 50}, 0}, Size{{40, 10, 35}, {33, 17, 50}, 1},
                           Size{{40, 35, 10}, {33, 50, 4}, 2}, Size{{40, 35, 10}, {40, 35, 23}, 2},
                           Size{{9, 40, 35}, {3, 17, 50}, -1}, Size{{9, 40, 15}, {3, 50, 5}, 2}}) {
    const at::Tensor source = Noise(size.in, 11);
    const GridMap map = EdgeMap(size.in, size.out, size.low_axis);
    const auto loops = Resample(source, map, v1::INTERPOLATION_CUBIC, {3, {}});
    ASSERT_TRUE(loops.ok()) << loops.status();
    ExpectNear(Cubic(source, map), Values(*loops), 2e-5f);
  }
}

TS_INSTANTIATE_PLACES(CubicTest, testing::AllPlaces());

TEST(EdgeTableTest, NearestIsHalfUpAndLinearIsClampedAtTheEdges) {
  const AxisTable half = MakeEdgeTable(4, 2, /*by_nearest=*/true, false, false);  // at 0.5 and 2.5
  EXPECT_THAT(half.low, ::testing::ElementsAre(1, 3));
  EXPECT_THAT(half.nearest, ::testing::ElementsAre(1, 3));
  EXPECT_TRUE(half.exact);
  const AxisTable twice =
      MakeEdgeTable(2, 4, /*by_nearest=*/false, false, false);  // at -0.25, 0.25, 0.75, 1.25
  EXPECT_THAT(twice.low, ::testing::ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(twice.high_weight, ::testing::ElementsAre(0, 0.25f, 0.75f, 0));
  EXPECT_THAT(twice.place, ::testing::ElementsAre(-0.25, 0.25, 0.75, 1.25));
  const AxisTable back = MakeEdgeTable(4, 2, /*by_nearest=*/true, /*flip_input=*/true, false);
  EXPECT_THAT(back.nearest, ::testing::ElementsAre(2, 0)) << "half up along the recipe's axis, then flipped";
}

}  // namespace
}  // namespace tomoserve::compute
