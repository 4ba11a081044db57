// Where the voxels of the model grid lie in the volume.
#include "pipeline/object_places.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;

v1::Recipe TwoMillimetres() {
  v1::Recipe recipe = testing::SpotRecipe();
  testing::SetSpacing(recipe, {2, 2, 2}, v1::INTERPOLATION_LINEAR);
  return recipe;
}

// Slices of the volume at 0, 5, 10, ... mm; of the model at 0, 2, 4, ... mm, the other way round.
TEST(ObjectPlacesTest, VoxelsLieOnTheSlicesThatTheyWereMadeFrom) {
  v1::Recipe recipe = TwoMillimetres();
  recipe.mutable_preparation()->set_orientation("LPI");
  const auto geometry = AxialGeometry({21, 21, 7}, {1, 1, 5});
  const RunPlan plan = PlanRun(recipe, geometry).value();
  std::vector<compute::StoredArea> areas = compute::WholeAreas(geometry.size_ijk());
  areas[2].interpolated = true;  // at 10 mm
  areas[4].first_ij = {6, 0};    // at 20 mm
  const ObjectPlaces places(plan, areas);
  ASSERT_EQ(plan.grid.geometry.size_ijk()[2], 16u);
  for (std::int32_t k = 0; k < 16; ++k) {
    const int mm = 30 - 2 * k;
    SCOPED_TRACE(mm);
    const compute::RowRun run{k, 5, 4, 5};  // 8 to 10 mm along i
    EXPECT_LE(std::abs(places.NearestSlice(k) * 5 - mm), 2);
    EXPECT_EQ(places.IsOnInterpolatedSlice(run), mm > 5 && mm < 15);
    EXPECT_FALSE(places.IsAtStoredEdge(run));
    EXPECT_TRUE(places.IsAtStoredEdge({k, 5, 0, 5}));
    EXPECT_TRUE(places.IsAtStoredEdge({k, 10, 4, 5}));
    EXPECT_EQ(places.IsAtStoredEdge({k, 5, 3, 5}), mm > 15 && mm < 25)
        << "6 mm along i is an edge of one slice";
  }
  const ObjectPlaces own(areas);
  EXPECT_EQ(own.NearestSlice(3), 3);
  EXPECT_TRUE(own.IsOnInterpolatedSlice({2, 5, 4, 5}));
  EXPECT_FALSE(own.IsOnInterpolatedSlice({3, 5, 4, 5}));
}

// 22 columns of 1 mm become 12 of 2 mm: the last but one gives its label to the last column of the volume.
TEST(ObjectPlacesTest, VoxelsLieOnTheEdgeWhereTheirLabelsDo) {
  const auto geometry = AxialGeometry({22, 21, 7}, {1, 1, 5});
  const RunPlan plan = PlanRun(TwoMillimetres(), geometry).value();
  ASSERT_EQ(plan.grid.geometry.size_ijk()[0], 12u);
  const std::vector<compute::StoredArea> areas = compute::WholeAreas(geometry.size_ijk());
  const ObjectPlaces places(plan, areas);
  EXPECT_FALSE(places.IsAtStoredEdge({5, 5, 4, 9}));
  EXPECT_TRUE(places.IsAtStoredEdge({5, 5, 4, 10}));
  EXPECT_TRUE(places.IsAtStoredEdge({5, 5, 4, 11}));
}

}  // namespace
}  // namespace tomoserve::pipeline
