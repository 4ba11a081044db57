// Runs of recipes with a region: another model's labels say where to look.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pipeline/pipeline_fixtures.h"

namespace tomoserve::pipeline {
namespace {

using testing::AxialGeometry;
using testing::Identity;
using testing::SpotRecipe;
using testing::StoredVolume;

// Labels 2 and 300 of the other model, of two bytes a voxel. They and the voxels of the run are given as
// boxes.
class RegionRunTest : public testing::PlacedRunTest {
 protected:
  static constexpr std::uint32_t kColumns = 40, kRows = 30, kSlices = 20;

  using Corner = std::array<std::uint32_t, 3>;

  // Sets voxels first to last (inclusive).
  template <typename Set>
  static void ForBox(const Corner& first, const Corner& last, Set set) {
    for (std::uint32_t k = first[2]; k <= last[2]; ++k) {
      for (std::uint32_t j = first[1]; j <= last[1]; ++j) {
        for (std::uint32_t i = first[0]; i <= last[0]; ++i) set(i, j, k);
      }
    }
  }
  static std::size_t At(std::uint32_t i, std::uint32_t j, std::uint32_t k) {
    return (std::size_t{k} * kRows + j) * kColumns + i;
  }
  void LabelOther(const Corner& first, const Corner& last, std::uint16_t label) {
    ForBox(first, last, [&](auto i, auto j, auto k) { other_[At(i, j, k)] = label; });
  }
  void Paint(const Corner& first, const Corner& last) {
    ForBox(first, last, [&](auto i, auto j, auto k) { stored_.At(i, j, k) = 1; });
  }
  RegionLabels Region() const { return {std::as_bytes(std::span(other_)), 2}; }

  static v1::Recipe RecipeWithRegion() {
    v1::Recipe recipe = SpotRecipe();
    for (int axis = 0; axis < 3; ++axis) recipe.mutable_windows()->set_size(axis, 8);
    recipe.mutable_region()->set_model("lungs");
    recipe.mutable_region()->add_labels(2);
    recipe.mutable_region()->add_labels(300);
    return recipe;
  }

  // Voxels with a label.
  std::vector<std::size_t> Labelled(const v1::Recipe& recipe) {
    const auto outcome = Run(recipe, geometry_, stored_.Slices(), Identity, 2, 1, Region());
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    std::vector<std::size_t> found;
    for (std::size_t v = 0; outcome.ok() && v < outcome->labels.size(); ++v) {
      if (outcome->labels[v] != 0) found.push_back(v);
    }
    return found;
  }
  std::vector<std::size_t> Voxels(std::vector<std::pair<Corner, Corner>> boxes) {
    std::vector<std::size_t> voxels;
    for (const auto& [first, last] : boxes) {
      ForBox(first, last, [&](auto i, auto j, auto k) { voxels.push_back(At(i, j, k)); });
    }
    std::sort(voxels.begin(), voxels.end());
    return voxels;
  }

  // A region of two parts; a label that is none of the region's; a spot that crosses the region's border, one
  // inside of it and one far away.
  void PaintScene() {
    LabelOther({10, 5, 3}, {14, 9, 8}, 2);
    LabelOther({16, 7, 4}, {18, 12, 6}, 300);
    LabelOther({30, 20, 10}, {35, 25, 15}, 3);
    Paint({12, 4, 5}, {13, 6, 5});
    Paint({17, 8, 5}, {17, 8, 5});
    Paint({32, 22, 12}, {33, 22, 12});
  }

  const volume::Geometry geometry_ = AxialGeometry({kColumns, kRows, kSlices}, {1, 1, 2}, {-5, 7, 100});
  StoredVolume stored_{geometry_};
  std::vector<std::uint16_t> other_ = std::vector<std::uint16_t>(std::size_t{kColumns} * kRows * kSlices);
};

TEST_P(RegionRunTest, OnlyTheBoxAroundTheRegionIsAnalysed) {
  PaintScene();
  v1::Recipe recipe = RecipeWithRegion();
  recipe.mutable_preparation()->set_orientation("IAR");
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  auto run = Create(recipe, geometry_, stored_.Slices(), {}, Region());
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ((*run)->plan().box, (volume::Box{{10, 5, 3}, {9, 8, 6}}));
  EXPECT_EQ(Labelled(recipe), Voxels({{{12, 5, 5}, {13, 6, 5}}, {{17, 8, 5}, {17, 8, 5}}}));
  recipe.mutable_preparation()->mutable_crop()->set_margin_voxels(4);
  run = Create(recipe, geometry_, stored_.Slices(), {}, Region());
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ((*run)->plan().box, (volume::Box{{6, 1, 0}, {17, 16, 13}}));
  EXPECT_EQ(Labelled(recipe), Voxels({{{12, 4, 5}, {13, 6, 5}}, {{17, 8, 5}, {17, 8, 5}}}));
}

TEST_P(RegionRunTest, ABoxThatIsResampledKeepsItsPlace) {
  PaintScene();
  v1::Recipe recipe = RecipeWithRegion();
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  testing::SetSpacing(recipe, {0.5, 1, 1}, v1::INTERPOLATION_LINEAR);
  recipe.mutable_decode()->SwapElements(0, 1);
  recipe.add_decode()->mutable_keep_in_region();
  EXPECT_EQ(Labelled(recipe), Voxels({{{12, 5, 5}, {13, 6, 5}}, {{17, 8, 5}, {17, 8, 5}}}));
}

// Without a crop, with one to the region, with one by the background, and by both devices' ways.
TEST_P(RegionRunTest, LabelsStayInTheRegion) {
  PaintScene();
  v1::Recipe recipe = RecipeWithRegion();
  v1::KeepInRegion& keep = *recipe.add_decode()->mutable_keep_in_region();
  const auto expect_both = [&] {
    keep.set_whole_components(false);
    EXPECT_EQ(Labelled(recipe), Voxels({{{12, 5, 5}, {13, 6, 5}}, {{17, 8, 5}, {17, 8, 5}}}));
    keep.set_whole_components(true);
    EXPECT_EQ(Labelled(recipe), Voxels({{{12, 4, 5}, {13, 6, 5}}, {{17, 8, 5}, {17, 8, 5}}}));
  };
  expect_both();
  recipe.mutable_preparation()->set_orientation("IAR");
  recipe.mutable_preparation()->mutable_crop()->set_margin_voxels(2);
  expect_both();
  recipe.mutable_preparation()->mutable_crop()->set_to_region(true);
  expect_both();
}

TEST_P(RegionRunTest, LaterStepsSeeWhatIsLeft) {
  PaintScene();
  Paint({20, 20, 18}, {30, 25, 18});  // the largest, outside
  v1::Recipe recipe = RecipeWithRegion();
  recipe.add_decode()->mutable_keep_in_region();
  v1::KeepLargest& keep = *recipe.add_decode()->mutable_keep_largest();
  keep.set_label(1);
  keep.set_count(1);
  EXPECT_EQ(Labelled(recipe), Voxels({{{12, 5, 5}, {13, 6, 5}}}));
  const auto outcome = Run(recipe, geometry_, stored_.Slices(), Identity, 1, 2, Region());
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_EQ(outcome->result.findings.size(), 1u);
  EXPECT_EQ(outcome->result.findings[0].voxels(), 4u);
}

TEST_P(RegionRunTest, AnEmptyRegionIsAnAnswer) {
  LabelOther({1, 1, 1}, {5, 5, 5}, 3);
  const auto run = Create(RecipeWithRegion(), geometry_, stored_.Slices(), {}, Region());
  EXPECT_EQ(run.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(run.status()), "REGION_EMPTY");
}

TEST_P(RegionRunTest, RefusesWhatIsNoLabelMapOfTheVolume) {
  PaintScene();
  const v1::Recipe recipe = RecipeWithRegion();
  const auto missing = Create(recipe, geometry_, stored_.Slices());
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(missing.status()), "REGION_MISSING");
  RegionLabels region = Region();
  region.bytes_per_voxel = 1;
  const auto other_size = Create(recipe, geometry_, stored_.Slices(), {}, region);
  EXPECT_EQ(other_size.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(other_size.status()), "REGION_SIZE");
}

TEST_P(RegionRunTest, ARecipeWithoutARegionIgnoresIt) {
  PaintScene();
  EXPECT_EQ(Labelled(SpotRecipe()).size(), 6u + 1 + 2);
}

TS_INSTANTIATE_PLACES(RegionRunTest, testing::AllPlaces());

}  // namespace
}  // namespace tomoserve::pipeline
