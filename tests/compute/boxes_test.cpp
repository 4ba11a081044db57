#include "tomoserve/compute/boxes.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tomoserve::compute {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Box Cube(float low, float high) { return {{low, low, low}, {high, high, high}}; }

Detection Found(const Box& box, float score, std::uint32_t class_index = 0) {
  return {box, score, class_index};
}

TEST(AnchorTest, HalfSizesAreRoundedHalfToEven) {
  // MONAI: torch.round(2.5) is 2, so the anchor that is 5 deep becomes 4 deep.
  EXPECT_EQ(AnchorOf({8, 6, 5}, 1), (Box{{-4, -3, -2}, {4, 3, 2}}));
  EXPECT_EQ(AnchorOf({7, 3, 1}, 1), (Box{{-4, -2, -0.0F}, {4, 2, 0}}));
  EXPECT_EQ(AnchorOf({8, 6, 5}, 2), (Box{{-8, -6, -5}, {8, 6, 5}}));
  EXPECT_EQ(AnchorOf({10, 10, 6}, 4), (Box{{-20, -20, -12}, {20, 20, 12}}));
}

TEST(DecodeBoxTest, MovesInSizesOfTheAnchorAndGrowsByTheExponential) {
  const Box anchor = AnchorOf({4, 6, 8}, 1);
  EXPECT_EQ(DecodeBox(anchor, {10, 20, 30}, {}), (Box{{8, 17, 26}, {12, 23, 34}}));
  const Box moved = DecodeBox(anchor, {10, 20, 30}, {0.5F, -1, 0, 0, 0, 0});
  EXPECT_EQ(moved, (Box{{10, 11, 26}, {14, 17, 34}}));
  const Box grown = DecodeBox(anchor, {10, 20, 30}, {0, 0, 0, std::log(2.0F), 0, -std::log(2.0F)});
  EXPECT_NEAR(grown.high[0] - grown.low[0], 8, 1e-5);
  EXPECT_NEAR(grown.high[1] - grown.low[1], 6, 1e-5);
  EXPECT_NEAR(grown.high[2] - grown.low[2], 4, 1e-5);
}

TEST(DecodeBoxTest, NoBoxGrowsBeyond1000Sixteenths) {
  const Box box = DecodeBox(AnchorOf({4, 4, 4}, 1), {0, 0, 0}, {0, 0, 0, 100, 4.2F, 4.1F});
  EXPECT_NEAR(box.high[0] - box.low[0], 250, 1e-3);
  EXPECT_NEAR(box.high[1] - box.low[1], 250, 1e-3);
  EXPECT_NEAR(box.high[2] - box.low[2], 4 * std::exp(4.1), 1e-3);
}

TEST(ClipBoxTest, KeepsWhatLiesInTheVolumeAndDropsSidesBelowOneVoxel) {
  EXPECT_EQ(ClipBox({{-3, 2, 5}, {4, 90, 7}}, {10, 20, 30}), (Box{{0, 2, 5}, {4, 20, 7}}));
  EXPECT_TRUE(ClipBox({{-3, 2, 5}, {1, 90, 7}}, {10, 20, 30}).has_value());
  EXPECT_FALSE(ClipBox({{-3, 2, 5}, {0.99F, 90, 7}}, {10, 20, 30}).has_value());
  EXPECT_FALSE(ClipBox({{11, 2, 5}, {15, 90, 7}}, {10, 20, 30}).has_value());
  EXPECT_FALSE(ClipBox({{0, 0, kNan}, {5, 5, 5}}, {10, 20, 30}).has_value());
}

TEST(IntersectionOverUnionTest, IsTheShareOfWhatBothCover) {
  EXPECT_FLOAT_EQ(IntersectionOverUnion(Cube(0, 2), Cube(0, 2)), 1);
  EXPECT_FLOAT_EQ(IntersectionOverUnion(Cube(0, 2), Cube(2, 4)), 0);
  EXPECT_FLOAT_EQ(IntersectionOverUnion(Cube(0, 2), {{1, 0, 0}, {3, 2, 2}}), 4.0F / 12);
}

TEST(SuppressOverlapsTest, TheBetterOfTwoStaysAndClassesDoNotTouchEachOther) {
  const auto kept = SuppressOverlaps({Found(Cube(0, 10), 0.5F), Found(Cube(1, 11), 0.9F),
                                      Found(Cube(0, 10), 0.4F, 1), Found(Cube(20, 30), 0.1F)},
                                     0.22F, 100);
  ASSERT_EQ(kept.size(), 3u);
  EXPECT_EQ(kept[0].score, 0.9F);
  EXPECT_EQ(kept[1].class_index, 1u);
  EXPECT_EQ(kept[2].score, 0.1F);
}

TEST(SuppressOverlapsTest, AnOverlapOfExactlyTheLimitStays) {
  const Box a = Cube(0, 2);
  const Box b{{1, 0, 0}, {3, 2, 2}};
  const float overlap = IntersectionOverUnion(a, b);
  EXPECT_EQ(SuppressOverlaps({Found(a, 1), Found(b, 0.5F)}, overlap, 100).size(), 2u);
  EXPECT_EQ(SuppressOverlaps({Found(a, 1), Found(b, 0.5F)}, std::nextafter(overlap, 0.0F), 100).size(), 1u);
}

TEST(SuppressOverlapsTest, ADroppedBoxDropsNoOther) {
  // b overlaps a and c; a and c do not overlap.
  const auto kept = SuppressOverlaps(
      {Found(Cube(0, 10), 0.9F), Found(Cube(3, 13), 0.8F), Found(Cube(7, 17), 0.7F)}, 0.1F, 100);
  ASSERT_EQ(kept.size(), 2u);
  EXPECT_EQ(kept[1].score, 0.7F);
}

TEST(SuppressOverlapsTest, EqualScoresKeepTheirOrder) {
  std::vector<Detection> candidates;
  for (int n = 0; n < 40; ++n) {
    const auto low = static_cast<float>(100 * (n % 20));
    candidates.push_back(Found(Cube(low, low + 10), 0.5F));
  }
  const auto kept = SuppressOverlaps(candidates, 0.22F, 100);
  ASSERT_EQ(kept.size(), 20u);
  for (std::size_t n = 0; n < kept.size(); ++n) EXPECT_EQ(kept[n], candidates[n]);
}

TEST(SuppressOverlapsTest, KeepsAtMostSoMany) {
  EXPECT_EQ(
      SuppressOverlaps({Found(Cube(0, 1), 1), Found(Cube(5, 6), 1), Found(Cube(8, 9), 1)}, 0.5F, 2).size(),
      2u);
  EXPECT_TRUE(SuppressOverlaps({}, 0.5F, 2).empty());
}

}  // namespace
}  // namespace tomoserve::compute
