#include "tomoserve/compute/stored_area.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tomoserve/base/status.h"

namespace tomoserve::compute {
namespace {

using ::testing::ElementsAre;

class StoredAreaTest : public ::testing::Test {
 protected:
  // 6 columns x 5 rows.
  StoredSlice Shifted(double i, double j) const {
    return {.bytes = std::as_bytes(std::span(values_)),
            .type = ipc::v1::STORED_TYPE_I16,
            .shift = Shift{{i, j}, {6, 5}, -1024}};
  }
  static StoredSlice Missing(std::uint32_t before, std::uint32_t after, double weight) {
    StoredSlice slice;
    slice.between = Between{before, after, weight};
    return slice;
  }
  const std::vector<std::int16_t> values_ = std::vector<std::int16_t>(30);
};

TEST_F(StoredAreaTest, AShiftedSliceFillsAPartOfTheGrid) {
  const auto areas = StoredAreas(std::vector{Shifted(0, 0), Shifted(2, 3), Shifted(0.25, 2.5)}, {8, 8, 3});
  ASSERT_TRUE(areas.ok()) << areas.status();
  EXPECT_THAT((*areas)[0].first_ij, ElementsAre(0, 0));
  EXPECT_THAT((*areas)[0].last_ij, ElementsAre(5, 4));
  EXPECT_THAT((*areas)[1].first_ij, ElementsAre(2, 3));
  EXPECT_THAT((*areas)[1].last_ij, ElementsAre(7, 7));
  // The outermost pixels are mixed with what lies outside.
  EXPECT_THAT((*areas)[2].first_ij, ElementsAre(1, 3));
  EXPECT_THAT((*areas)[2].last_ij, ElementsAre(5, 6));
  EXPECT_THAT((*areas)[2].centre_ij, ElementsAre(2.75, 4.5));
  EXPECT_THAT((*areas)[2].size_ij, ElementsAre(6u, 5u));
  EXPECT_FALSE((*areas)[2].interpolated);
}

TEST_F(StoredAreaTest, AnInterpolatedSliceHasWhatBothNeighboursHave) {
  const auto areas = StoredAreas(
      std::vector{Shifted(0, 1), Missing(0, 3, 0.25), Missing(0, 3, 0.75), Shifted(2, 0)}, {8, 6, 4});
  ASSERT_TRUE(areas.ok()) << areas.status();
  EXPECT_TRUE((*areas)[1].interpolated);
  EXPECT_THAT((*areas)[1].first_ij, ElementsAre(2, 1));
  EXPECT_THAT((*areas)[1].last_ij, ElementsAre(5, 4));
  EXPECT_THAT((*areas)[1].centre_ij, ElementsAre(3, 2.75));
  EXPECT_THAT((*areas)[2].centre_ij, ElementsAre(4, 2.25));
}

TEST_F(StoredAreaTest, WithoutACorrectionItIsTheGrid) {
  StoredSlice plain = Shifted(0, 0);
  plain.shift.reset();
  const auto areas = StoredAreas(std::vector{plain, plain}, {6, 5, 2});
  ASSERT_TRUE(areas.ok()) << areas.status();
  const std::vector<StoredArea> whole = WholeAreas({6, 5, 2});
  ASSERT_EQ(whole.size(), 2u);
  for (const StoredArea& area : {areas->front(), areas->back(), whole.front(), whole.back()}) {
    EXPECT_THAT(area.first_ij, ElementsAre(0, 0));
    EXPECT_THAT(area.last_ij, ElementsAre(5, 4));
    EXPECT_THAT(area.centre_ij, ElementsAre(2.5, 2));
  }
}

TEST_F(StoredAreaTest, EdgesAreThoseOfTheStoredImage) {
  const StoredArea area = StoredAreas(std::vector{Shifted(2, 3)}, {12, 12, 1})->front();
  EXPECT_FALSE(area.IsEdge(3, 6, 4));
  EXPECT_TRUE(area.IsEdge(2, 6, 4));
  EXPECT_TRUE(area.IsEdge(3, 7, 4));
  EXPECT_TRUE(area.IsEdge(3, 6, 3));
  EXPECT_TRUE(area.IsEdge(3, 6, 7));
  EXPECT_TRUE(area.IsEdge(9, 10, 9)) << "beyond it";
}

TEST_F(StoredAreaTest, NothingMayBeLeft) {
  // Shifted off the grid, and neighbours that have nothing in common.
  EXPECT_TRUE(StoredAreas(std::vector{Shifted(8, 0)}, {8, 5, 1})->front().IsEmpty());
  const auto areas = StoredAreas(std::vector{Shifted(0, 0), Missing(0, 2, 0.5), Shifted(7, 0)}, {13, 5, 3});
  ASSERT_TRUE(areas.ok()) << areas.status();
  EXPECT_TRUE((*areas)[1].IsEmpty());
  EXPECT_TRUE((*areas)[1].IsEdge(6, 6, 2));
}

TEST_F(StoredAreaTest, RefusesSlicesThatDoNotFit) {
  EXPECT_EQ(base::ReasonOf(StoredAreas(std::vector{Shifted(0, 0)}, {8, 8, 2}).status()), "SLICE_COUNT");
  EXPECT_EQ(base::ReasonOf(StoredAreas(std::vector{Shifted(9, 0)}, {8, 8, 1}).status()), "SLICE_SHIFT");
  EXPECT_EQ(base::ReasonOf(StoredAreas(std::vector{Shifted(0, 0), Missing(0, 2, 0.5)}, {8, 8, 2}).status()),
            "SLICE_BETWEEN");
}

}  // namespace
}  // namespace tomoserve::compute
